// Calls market.v1.Quotes from pages in headless Chromium. Reads {"descriptors": file, "edge": "http://host:port"} from stdin,
// writes {"allowed": [outcome, ...], "stranger": [outcome, ...]}: the first from a page whose origin may call, on the port
// `port`, the second from one whose origin may not.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const asked = JSON.parse(await text(process.stdin));
const bundle = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "iife",
  write: false,
  logLevel: "error",
});
const script = bundle.outputFiles[0].text;

function serve(port) {
  const server = createServer((request, response) => {
    const js = request.url.endsWith(".js");
    response.setHeader("content-type", js ? "text/javascript" : "text/html");
    response.end(js ? script : '<!doctype html><meta charset="utf-8"><script src="/page.js"></script>');
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

const profile = mkdtempSync(join(tmpdir(), "mesh-chromium-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const servers = [await serve(asked.port), await serve(0)];
const descriptors = readFileSync(asked.descriptors).toString("base64");
const outcomes = [];
try {
  for (const server of servers) {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    outcomes.push(await page.evaluate(([edge, set]) => window.make(edge, set), [asked.edge, descriptors]));
  }
} finally {
  await browser.close();
  for (const server of servers) server.close();
  rmSync(profile, { recursive: true, force: true });
}
process.stdout.write(JSON.stringify({ allowed: outcomes[0], stranger: outcomes[1] }));
