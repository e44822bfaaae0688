/**
 * The package as it would be published: built, packed, installed elsewhere; used from Node 20, from a browser and from
 * TypeScript, against a real server.
 *
 * Node 20 is EASEL_TEST_NODE20, or a `node` of the PATH; where there is none those tests are skipped aloud, and where CI is set
 * they fail. tests/support/browser.ts says the same of the browser.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { findChromium, openBrowser } from "../../../tests/support/browser.ts";
import { docsExamples } from "../../../tests/support/docs-examples.ts";
import { type EaselServer, longRequest, pngHeader, startServer, until } from "../../../tests/support/easel-server.ts";
import type * as Client from "../src/index.ts";

const run = promisify(execFile);
const examples = docsExamples(new URL("../README.md", import.meta.url));
const repository = fileURLToPath(new URL("../../..", import.meta.url));
const node20 = findNode20();
const chromium = findChromium("The client in a browser");

let cwd: string;
let installed: string;
let pages: Server;
let server: EaselServer;
beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), "easel-client-"));
  installed = join(cwd, "node_modules", "easel-client");
  mkdirSync(installed, { recursive: true });
  // Built by name: this repository's npm runs no script of a package's life cycle, such as prepack.
  await run("npm", ["run", "build"], { cwd: join(repository, "packages", "client") });
  const packing = ["pack", "--json", "--pack-destination", cwd];
  const { stdout } = await run("npm", packing, { cwd: join(repository, "packages", "client") });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("["))) as [{ filename: string }];
  await run("tar", ["-xzf", join(cwd, filename), "-C", installed, "--strip-components=1"]);
  pages = await servePages();
  const { port } = pages.address() as AddressInfo;
  server = await startServer({
    EASEL_MODEL: "easel-sketch",
    EASEL_CORS_ORIGINS: `http://easel.test:${port}`,
    EASEL_DISCONNECT_GRACE_SECONDS: "1",
  });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  pages.close();
  rmSync(cwd, { recursive: true });
});

/** A page with the installed package in it, as `client`, and the package's files. */
async function servePages(): Promise<Server> {
  const page = '<script type="module">import * as client from "/index.js"; globalThis.client = client;</script>';
  const answers = createServer(({ url = "/" }, response) => {
    if (url === "/") return response.setHeader("content-type", "text/html").end(page);
    if (extname(url) !== ".js") return response.writeHead(204).end();
    response.setHeader("content-type", "text/javascript");
    return response.end(readFileSync(join(installed, "dist", url)));
  });
  await new Promise<void>((listening) => answers.listen(0, "127.0.0.1", listening));
  return answers;
}

/** An example of the README with this test's server in it. */
function example(name: string): string {
  const code = examples.get(name);
  if (code === undefined) throw new Error(`README.md has no example "${name}"`);
  return code.replaceAll("http://127.0.0.1:8080", server.url).replaceAll("YOUR_KEY", server.key);
}

async function runExample(name: string): Promise<string> {
  writeFileSync(join(cwd, `${name}.mjs`), example(name));
  return (await run(node20!, [`${name}.mjs`], { cwd })).stdout;
}

function pictureSize(name: string): string {
  const { width, height } = pngHeader(readFileSync(join(cwd, name)));
  return `${width}x${height}`;
}

test("holds the built files, the README and the licence, and nothing else", () => {
  expect(readdirSync(installed).toSorted()).toEqual(["LICENSE", "README.md", "dist", "package.json"]);
  const files = readdirSync(join(installed, "dist"));
  expect(files.filter((name) => !/\.(js|d\.ts)$/.test(name))).toEqual([]);
  expect(files.filter((name) => name.endsWith(".js")).map((name) => name.replace(".js", ".d.ts"))).toEqual(
    files.filter((name) => name.endsWith(".d.ts")),
  );
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Record<string, unknown>;
  expect(dependencies).toBeUndefined();
});

test.each(["nodenext", "bundler"])("its types serve a strict program with %s resolution", async (resolution) => {
  writeFileSync(
    join(cwd, "program.ts"),
    `import { Easel, type Job, type Picture, RateLimitError, regolo } from "easel-client";
     const easel = new Easel({ apiKey: "k", maxRetries: 0 });
     export async function draw(signal: AbortSignal): Promise<Picture | undefined> {
       const { images, usage } = await easel.generate({ prompt: "a", n: 2, lora: ["x"] }, { signal });
       const tokens: number | undefined = usage?.outputTokens;
       for await (const event of easel.stream({ prompt: "a", partialImages: 1 })) {
         if (event.type === "partial") console.log(event.index, tokens);
       }
       const job: Job = await easel.jobs.create({ image: images[0]!.blob(), prompt: "a", webhookUrl: "https://x" });
       return (await easel.jobs.wait(job.id)).result?.images[0];
     }
     export const bytes: Promise<Uint8Array[]> = regolo.staticImageCreate({ prompt: "a" });
     export const isLimited = (error: unknown) => error instanceof RateLimitError && error.status === 429;
     // @ts-expect-error a prompt is text
     void easel.generate({ prompt: 7 });`,
  );
  const settings = {
    compilerOptions: {
      strict: true,
      noEmit: true,
      skipLibCheck: false,
      types: [],
      lib: ["es2023", "dom", "dom.asynciterable"],
      target: "es2023",
      module: resolution === "bundler" ? "preserve" : "nodenext",
      moduleResolution: resolution,
    },
    files: ["program.ts"],
  };
  writeFileSync(join(cwd, "tsconfig.json"), JSON.stringify(settings));
  writeFileSync(join(cwd, "package.json"), JSON.stringify({ type: "module" }));
  const compiler = join(repository, "node_modules", "typescript", "bin", "tsc");
  const { stdout } = await run(process.execPath, [compiler, "-p", cwd]).catch((error: { stdout: string }) => error);
  expect(stdout).toBe("");
});

describe.skipIf(node20 === undefined)("on Node 20, as README.md says,", () => {
  test("draws", async () => {
    await runExample("generate");
    expect(pictureSize("cat.png")).toBe("256x256");
  });

  test("edits, enlarges, and shows a picture on the way", async () => {
    await runExample("edit-and-stream");
    expect(pictureSize("snow.png")).toBe("1024x1024");
    expect(["boat-0.png", "boat-1.png", "boat.png"].map(pictureSize)).toEqual(["256x256", "256x256", "256x256"]);
  });

  test("orders a job from a picture and follows it", async () => {
    expect(await runExample("jobs")).toMatch(/^(step \d+ of \d+\n)+$/);
    expect(pictureSize("hat.png")).toBe("256x256");
  });

  test("has Regolo's functions", async () => {
    await runExample("regolo");
    expect(pictureSize("rome.png")).toBe("1024x1024");
  });
});

/** What the page has that Node lacks. */
interface PageGlobals {
  client: typeof Client;
  isSecureContext: boolean;
  createImageBitmap(blob: Blob): Promise<{ width: number; height: number }>;
}

const options = () => ({ baseURL: server.url, apiKey: server.key });

async function openPage(page: Page): Promise<void> {
  await page.goto(`http://easel.test:${(pages.address() as AddressInfo).port}/`);
  await page.waitForFunction("globalThis.client !== undefined");
}

// The page's name is no loopback address and its scheme is HTTP: what browsers keep for secure pages is missing there.
describe.skipIf(chromium === undefined)("in a browser, on a page of another origin,", () => {
  test("draws, and shows previews on the way", async () => {
    await using browser = await openBrowser(chromium!);
    await openPage(browser.page);
    const seen = await browser.page.evaluate(async (settings) => {
      const { client, createImageBitmap, isSecureContext } = globalThis as unknown as PageGlobals;
      const easel = new client.Easel(settings);
      const measure = async (blob: Blob) => {
        const { width, height } = await createImageBitmap(blob);
        return `${width}x${height}`;
      };
      const drawing = { prompt: "a red boat", size: "256x256", seed: 7 };
      const { images } = await easel.generate(drawing);
      const events = [];
      for await (const { type, image } of easel.stream({ ...drawing, partialImages: 2 })) {
        events.push([type, await measure(image.blob())]);
      }
      const edited = await easel.edit({ image: images[0]!.blob(), prompt: "a blue boat", strength: 0.5 });
      const job = await easel.jobs.create(drawing);
      const { status } = await easel.jobs.wait(job.id);
      return {
        secure: isSecureContext,
        drawn: await measure(images[0]!.blob()),
        edited: await measure(edited.images[0]!.blob()),
        events,
        status,
      };
    }, options());
    expect(seen).toEqual({
      secure: false,
      drawn: "256x256",
      edited: "256x256",
      events: [
        ["partial", "256x256"],
        ["partial", "256x256"],
        ["completed", "256x256"],
      ],
      status: "succeeded",
    });
    expect(browser.complaints).toEqual([]);
  });

  test("sees the server's errors with their ids, and its advice not to try again", async () => {
    const { key } = await server.keys.create("poor", { budget: { pixelSteps: 1, period: "day" } });
    await using browser = await openBrowser(chromium!);
    await openPage(browser.page);
    const error = await browser.page.evaluate(
      async (settings) => {
        const { Easel, RateLimitError } = (globalThis as unknown as PageGlobals).client;
        try {
          await new Easel(settings).generate({ prompt: "a red boat" });
          return undefined;
        } catch (reason) {
          if (!(reason instanceof RateLimitError)) return String(reason);
          return { code: reason.code, status: reason.status, requestId: reason.requestId };
        }
      },
      { ...options(), apiKey: key },
    );
    expect(error).toEqual({ code: "insufficient_quota", status: 429, requestId: expect.stringMatching(/^req_/) });
    expect(browser.requests.filter((url) => url.endsWith("/v1/images/generations"))).toHaveLength(1);
  });

  test("an abort ends the call at once and the work soon after", async () => {
    await using browser = await openBrowser(chromium!);
    await openPage(browser.page);
    const drawing = browser.page.evaluate(
      async ({ settings, request }) => {
        const { Easel } = (globalThis as unknown as PageGlobals).client;
        const controller = new AbortController();
        setTimeout(() => controller.abort(new Error("changed my mind")), 1500);
        const call = new Easel(settings).generate(request, { signal: controller.signal });
        return await call.then(String, (error: Error) => error.message);
      },
      { settings: options(), request: longRequest },
    );
    await until(() => server.jobs.inHand > 0);
    expect(await drawing).toBe("changed my mind");
    await until(() => server.jobs.inHand === 0);
  });
});

function findNode20(): string | undefined {
  const named = process.env["EASEL_TEST_NODE20"];
  const onPath = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "node"));
  const found = (named === undefined ? onPath : [named]).find(isNode20);
  if (found !== undefined) return found;
  const reason = named === undefined ? "no `node` of the PATH is version 20" : `${named} is not Node 20`;
  if (process.env["CI"]) throw new Error(`The client must be tested on Node 20 in CI, but ${reason}.`);
  console.warn(`The client is not tested on Node 20: ${reason} (EASEL_TEST_NODE20 names one).`);
  return undefined;
}

function isNode20(path: string): boolean {
  try {
    return execFileSync(path, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).startsWith(
      "v20.",
    );
  } catch {
    return false;
  }
}
