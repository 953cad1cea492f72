// Drives the page in Chromium: takes {library, chromium, flags, url, viewport, colours, steps} as JSON from the standard
// input, and writes {values, requests, errors} to the standard output. A step is the name of a function below and its
// arguments; `values` has what each returned.

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const order = JSON.parse(await text(process.stdin));
const { chromium } = (await import(pathToFileURL(order.library))).default;
const browser = await chromium.launch({
  executablePath: order.chromium,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", ...order.flags],
  env: { ...process.env, LD_LIBRARY_PATH: order.libraries ?? process.env.LD_LIBRARY_PATH ?? "" },
});
const context = await browser.newContext({ viewport: order.viewport, colorScheme: order.colours, permissions: order.permissions });
const page = await context.newPage();
const errors = [];
const requests = [];
page.on("pageerror", (error) => errors.push(String(error)));
// What Chromium says of machines without a GPU, and of this driver, which reads canvases again and again.
const EXPECTED = /^No available adapters|willReadFrequently/;
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type()) && !EXPECTED.test(message.text())) errors.push(message.text());
});
context.on("request", (request) => requests.push(request.url()));
// From the start: Playwright does not wait until Chromium reports what asks for files, and a key may be faster.
page.on("filechooser", () => {});

const readScript = async (name) => `(${await readFile(new URL(name, import.meta.url), "utf8")})`;
const LOOK = `${await readScript("look.js")}()`;
const PIXELS = await readScript("pixels.js");

const steps = {
  async open(path = "") {
    await page.goto(order.url + path);
  },
  // Until the status matches, which is how a person knows.
  async wait(pattern) {
    await page.waitForFunction((source) => new RegExp(source).test(document.getElementById("status").textContent), pattern, {
      timeout: 60000,
    });
  },
  // As the browser does it when a file falls onto the page; what the status says then is of this file.
  async drop(path, type) {
    const bytes = (await readFile(path)).toString("base64");
    await page.evaluate(
      ([content, name, type]) => {
        document.getElementById("status").textContent = "";
        const transfer = new DataTransfer();
        const values = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([values], name, { type }));
        document.getElementById("frame").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
      },
      [bytes, path.split("/").at(-1), type],
    );
  },
  choose: (path) => page.setInputFiles("#file", path),
  // What the focus is on, pressed, asks for a file.
  async pressAndChoose(key, path) {
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press(key)]);
    await chooser.setFiles(path);
  },
  set: (selector, value) =>
    page.$eval(
      selector,
      (element, value) => {
        element.value = value;
        element.dispatchEvent(new Event("input", { bubbles: true }));
        element.dispatchEvent(new Event("change", { bubbles: true }));
      },
      value,
    ),
  press: (key) => page.keyboard.press(key),
  click: (selector) => page.click(selector),
  evaluate: (expression) => page.evaluate(expression),
  // Not by the library, whose way the page's security policy forbids for texts.
  async until(expression) {
    for (const start = Date.now(); !(await page.evaluate(expression)); await page.waitForTimeout(20)) {
      if (Date.now() - start > 60000) throw new Error(`not within a minute: ${expression}`);
    }
  },
  look: () => page.evaluate(LOOK),
  offline: () => context.setOffline(true),
  pixels: (selector) => page.evaluate(`${PIXELS}(${JSON.stringify(selector)})`),
  async screenshot(path, whole = false) {
    await page.screenshot({ path, fullPage: whole });
  },
};

const values = [];
try {
  for (const [name, ...given] of order.steps) values.push((await steps[name](...given)) ?? null);
} catch (error) {
  errors.push(`${error}; the page says: ${await page.evaluate(LOOK).then(({ status }) => status, String)}`);
}
await browser.close();
process.stdout.write(JSON.stringify({ values, requests, errors }));
