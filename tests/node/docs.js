// Reads the documentation page in headless Chromium and tries an operation out. Reads {"page": URL, "filter", "fill": {name:
// value}} from stdin, writes what there is to see.

import { text } from "node:stream/consumers";
import { launch } from "./chromium.js";

const asked = JSON.parse(await text(process.stdin));
const { browser, close } = await launch();
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(asked.page);
  await page.waitForSelector("#operations details");
  const operations = await page.locator("#operations summary").allTextContents();
  const types = await page.locator("#types summary").allTextContents();
  await page.fill("#filter", asked.filter);
  const operation = page.locator("#operations details:not([hidden])").first();
  await operation.locator("summary").click();
  for (const [name, value] of Object.entries(asked.fill)) await operation.getByLabel(name).fill(value);
  const line = await operation.locator("pre", { hasText: "curl" }).textContent();
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".status-good, .status-bad").waitFor();
  const status = await operation.locator(".status-good, .status-bad").textContent();
  const body = await operation.locator("pre").last().textContent();
  process.stdout.write(JSON.stringify({ operations, types, line, status, body, complaints }));
} finally {
  await close();
}
