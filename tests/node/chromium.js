// Headless Chromium with a profile of its own, which is gone when it is closed.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export async function launch() {
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
  const close = async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { browser, close };
}

// A page at an origin of its own, with this script; port 0 is any.
export function serve(port, script) {
  const server = createServer((request, response) => {
    const js = request.url.endsWith(".js");
    response.setHeader("content-type", js ? "text/javascript" : "text/html");
    response.end(js ? script : '<!doctype html><meta charset="utf-8"><script src="/page.js"></script>');
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}
