/**
 * Chromium for tests: EASEL_TEST_CHROMIUM, or one that is installed. Where there is none its tests are skipped aloud; where
 * CI is set they fail.
 */
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Page } from "playwright-core";

export interface Browser extends AsyncDisposable {
  page: Page;
  /** The address of every request that a page made, in order. */
  requests: string[];
  /** What pages complained of: messages of errors in the console, and errors that nobody caught. */
  complaints: string[];
}

const usualPlaces = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser's path, or undefined after a warning. `what` would be tested with it. */
export function findChromium(what: string): string | undefined {
  const named = process.env["EASEL_TEST_CHROMIUM"];
  const found = (named === undefined ? usualPlaces : [named]).find(isExecutable);
  if (found !== undefined) return found;
  const reason = named === undefined ? "no Chromium was found" : `${named} is no program`;
  if (process.env["CI"]) throw new Error(`${what} must be tested in CI, but ${reason}.`);
  console.warn(`${what} is not tested: ${reason} (EASEL_TEST_CHROMIUM names one).`);
  return undefined;
}

/** A browser without a history, and its page. It knows the name easel.test and 127.0.0.1, and reaches nothing else. */
export async function openBrowser(executablePath: string): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), "easel-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-proxy-server",
      "--host-resolver-rules=MAP easel.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ],
  });
  const requests: string[] = [];
  const complaints: string[] = [];
  context.on("request", (request) => requests.push(request.url()));
  context.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  context.on("weberror", (error) => complaints.push(String(error.error())));
  return {
    page: context.pages()[0] ?? (await context.newPage()),
    requests,
    complaints,
    async [Symbol.asyncDispose]() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
