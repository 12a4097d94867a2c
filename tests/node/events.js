// Listens with `EventSource` from pages in headless Chromium. Reads {"port", "allowed": [[url, enough], ...], "stranger":
// [[url, enough], ...]} from stdin, writes {"allowed": [events, ...], "stranger": [events, ...]}: the first from a page whose
// origin may call, on that port, the second from one whose origin may not. A page closes its source after so many messages,
// at an error of the service, or when the browser has given up.

import { text } from "node:stream/consumers";
import { launch, serve } from "./chromium.js";

// Runs in the page.
function listen([url, enough]) {
  return new Promise((resolve) => {
    const events = [];
    const source = new EventSource(url);
    const close = () => {
      source.close();
      resolve(events);
    };
    source.onopen = () => events.push({ kind: "open" });
    source.onmessage = (event) => {
      events.push({ kind: "message", id: event.lastEventId, data: event.data });
      if (events.filter((event) => event.kind === "message").length === enough) close();
    };
    source.onerror = (event) => {
      const gone = source.readyState === EventSource.CLOSED;
      events.push({ kind: "error", data: event.data ?? null, gone });
      // With data it is the service's own; without, the connection's, and the browser comes again unless it has given up.
      if (event.data !== undefined || gone) close();
    };
  });
}

const asked = JSON.parse(await text(process.stdin));
const seen = {};
const { browser, close } = await launch();
const servers = { allowed: await serve(asked.port, ""), stranger: await serve(0, "") };
try {
  for (const [who, server] of Object.entries(servers)) {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    seen[who] = [];
    for (const call of asked[who]) seen[who].push(await page.evaluate(listen, call));
  }
} finally {
  await close();
  for (const server of Object.values(servers)) server.close();
}
process.stdout.write(JSON.stringify(seen));
