// Calls market.v1.Quotes from pages in headless Chromium. Reads {"descriptors": file, "edge": "http://host:port"} from stdin,
// writes {"allowed": [outcome, ...], "stranger": [outcome, ...]}: the first from a page whose origin may call, on the port
// `port`, the second from one whose origin may not.

import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { launch, serve } from "./chromium.js";

const asked = JSON.parse(await text(process.stdin));
const bundle = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "iife",
  write: false,
  logLevel: "error",
});
const script = bundle.outputFiles[0].text;

const { browser, close } = await launch();
const servers = [await serve(asked.port, script), await serve(0, script)];
const descriptors = readFileSync(asked.descriptors).toString("base64");
const outcomes = [];
try {
  for (const server of servers) {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    outcomes.push(await page.evaluate(([edge, set]) => window.make(edge, set), [asked.edge, descriptors]));
  }
} finally {
  await close();
  for (const server of servers) server.close();
}
process.stdout.write(JSON.stringify({ allowed: outcomes[0], stranger: outcomes[1] }));
