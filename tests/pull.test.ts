import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { downloadModel, type DownloadModelOptions, pullingFolder } from "../src/weights/hub/download-model.ts";
import { HubClient, type HubClientOptions } from "../src/weights/hub/hub-client.ts";
import { checkModelFolder } from "../src/weights/model-folder.ts";
import { otherTinyModel, tinyModelFolder } from "./support/easel-server.ts";
import { type Fault, type HubRequest, type HubServer, startHub } from "./support/hub-server.ts";

const repository = "someone/tiny";
const transformer = "transformer/diffusion_pytorch_model.safetensors";

let root: string;
let folder: string;
let hub: HubServer;
let notices: string[];
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "easel-pull-"));
  folder = join(root, "models", "tiny");
  notices = [];
  hub = await startHub({ repository, folder: tinyModelFolder });
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
});

function pull(client: HubClientOptions = {}, options: Partial<DownloadModelOptions> = {}) {
  return downloadModel({
    client: new HubClient({
      endpoint: hub.url,
      stallTimeoutMs: 1000,
      retryPauseMs: 5,
      onNotice: (sentence) => notices.push(sentence),
      ...client,
    }),
    repository,
    revision: "main",
    folder,
    cache: join(root, "cache"),
    onProgress: () => {},
    ...options,
  });
}

/** Faults for the first requests of the transformer's bytes, in order. */
function failTransformer(...faults: Fault[]): void {
  hub.fault = ({ server, path }) => (server === "content" && path === transformer ? faults.shift() : undefined);
}

/** Every file below a folder with its content. */
function contents(of: string): Map<string, string> {
  const paths = readdirSync(of, { recursive: true, encoding: "utf8" }).sort();
  const files = paths.filter((path) => statSync(join(of, path)).isFile() && path !== "easel-pull.json");
  return new Map(files.map((path) => [path, readFileSync(join(of, path), "base64")]));
}

const ranges = () => hub.requestsFor(transformer).flatMap(({ server, range }) => (server === "content" ? [range] : []));

describe("a pull", () => {
  test("brings every file as it is published, and then leaves nothing else behind", async () => {
    expect(await pull()).toMatchObject({ outcome: "downloaded", commit: hub.commit, license: "tiny", folder });
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
    expect(readdirSync(dirname(folder))).toEqual(["tiny"]);
  });

  test("fetches only the files that are needed", async () => {
    const unneeded = [
      "flux1-dev.safetensors",
      "ae.safetensors",
      "README.md",
      "text_encoder/pytorch_model.bin",
      "text_encoder/flax_model.msgpack",
      "text_encoder/model.fp16.safetensors",
      "transformer/diffusion_pytorch_model.fp16.safetensors",
      "transformer/model.onnx",
      "image_encoder/model.safetensors",
    ];
    for (const path of unneeded) hub.put(path, Buffer.from("not needed"));
    await pull();
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
    for (const path of unneeded) expect(hub.requestsFor(path)).toEqual([]);
  });

  test("brings shards with their index", async () => {
    await hub[Symbol.asyncDispose]();
    const shards = join(dirname(tinyModelFolder), otherTinyModel);
    hub = await startHub({ repository, folder: shards });
    await pull();
    expect(contents(folder)).toEqual(contents(shards));
  });

  test("shows the token to the Hub and to nobody that it redirects to", async () => {
    hub.requiredToken = "hf_secret";
    await pull({ token: { value: "hf_secret", source: "HF_TOKEN" } });
    for (const { server, authorization } of hub.requests) {
      expect(authorization).toBe(server === "hub" ? "Bearer hf_secret" : undefined);
    }
    expect(hub.requests.some(({ server }) => server === "content")).toBe(true);
  });

  test("of an installed model asks the Hub only whether there is something new", async () => {
    await pull();
    hub.requests.length = 0;
    expect((await pull()).outcome).toBe("already here");
    expect(hub.requests.every(({ path }) => path.startsWith("/api/"))).toBe(true);
  });

  test("of a newer commit fetches only the files that have changed", async () => {
    await pull();
    hub.requests.length = 0;
    hub.commit = "b".repeat(40);
    hub.put("scheduler/scheduler_config.json", Buffer.from("{}"));
    expect((await pull()).outcome).toBe("downloaded");
    const fetched = hub.requests.map(({ path }) => path).filter((path) => !path.startsWith("/api/"));
    expect(fetched).toEqual(["scheduler/scheduler_config.json"]);
    expect(readFileSync(join(folder, "scheduler/scheduler_config.json"), "utf8")).toBe("{}");
    expect(readdirSync(dirname(folder))).toEqual(["tiny"]);
  });

  test("brings a file back that was deleted from an installed model", async () => {
    await pull();
    rmSync(join(folder, transformer));
    await pull();
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
  });
});

describe("a download that is disturbed", () => {
  test("goes on where the connection was cut, and fetches only the rest", async () => {
    failTransformer({ cutAfter: 300_000 });
    await pull();
    const [first, second, ...more] = ranges();
    expect([first, more]).toEqual([undefined, []]);
    const resumedAt = Number(/^bytes=(\d+)-$/.exec(second ?? "")?.[1]);
    expect(resumedAt).toBeGreaterThan(0);
    expect(resumedAt).toBeLessThanOrEqual(300_000);
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
    expect(notices).toEqual([
      expect.stringMatching(/^transformer.*the connection broke off.*; trying again in 1 s\.$/),
    ]);
  });

  test.each<[string, Fault, RegExp]>([
    ["goes silent", { stallAfter: 100_000 }, /nothing arrived for 1 s/],
    ["ends too early", { endAfter: 100_000 }, /ended too early/],
    ["is refused by an overloaded server", { status: 503 }, /the server fails with 503/],
    ["meets an address that has expired", { status: 403 }, /the content server refuses with 403/],
  ])("that %s is tried again", async (_, fault, notice) => {
    failTransformer(fault);
    await pull();
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
    expect(notices).toEqual([expect.stringMatching(notice)]);
  });

  test("starts anew where the server does not resume", async () => {
    failTransformer({ cutAfter: 300_000 }, { ignoresRange: true });
    await pull();
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
  });

  test("starts anew when the resumed range is refused", async () => {
    failTransformer({ cutAfter: 300_000 }, { status: 416 });
    await pull();
    expect(ranges()).toEqual([undefined, expect.stringContaining("bytes="), undefined]);
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
  });

  test("fetches a damaged file once more", async () => {
    failTransformer({ damaged: true });
    await pull();
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
    expect(notices).toEqual([`${transformer}: what arrived is damaged, so it is fetched anew.`]);
  });

  test("notices that the part from an earlier run is damaged", async () => {
    const partial = join(pullingFolder(folder), `${transformer}.partial`);
    mkdirSync(dirname(partial), { recursive: true });
    writeFileSync(partial, Buffer.alloc(200_000));
    await pull();
    expect(ranges()).toEqual(["bytes=200000-", undefined]);
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
  });

  test("gives up on what is damaged twice, keeps the rest, and installs nothing", async () => {
    hub.fault = ({ server, path }) => (server === "content" && path === transformer ? { damaged: true } : undefined);
    await expect(pull()).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining("arrived damaged twice"),
    });
    expect(existsSync(folder)).toBe(false);
    hub.fault = () => undefined;
    hub.requests.length = 0;
    await pull({}, { parallel: 1 });
    expect(hub.requestsFor("text_encoder_2/model.safetensors").length).toBeLessThanOrEqual(2);
    expect(contents(folder)).toEqual(contents(tinyModelFolder));
  });

  test("a small file with another hash than the list says is refused too", async () => {
    hub.files.set("vae/config.json", Buffer.from("x".repeat(hub.files.get("vae/config.json")?.length ?? 0)));
    await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining("vae/config.json arrived damaged") });
    expect(existsSync(folder)).toBe(false);
  });

  test("a file that is longer than the list says is cut off at once", async () => {
    hub.files.set(transformer, Buffer.concat([hub.files.get(transformer)!, Buffer.alloc(1_000_000)]));
    await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining("is longer than the 616384 bytes") });
    expect(existsSync(folder)).toBe(false);
  });

  test("gives up after five attempts without a byte, and says what to do", async () => {
    hub.fault = ({ path }) => (path === transformer ? { status: 500 } : undefined);
    await expect(pull()).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringMatching(/the server fails with 500, 5 times in a row; run the same command again/),
    });
  });

  test("waits as long as a 429 asks", async () => {
    failTransformer({ status: 429, headers: { "retry-after": "1" } });
    const startedMs = performance.now();
    await pull();
    expect(performance.now() - startedMs).toBeGreaterThan(990);
    expect(notices).toEqual([
      expect.stringContaining("too many requests (429); HF_TOKEN raises the limit; trying again in 1 s"),
    ]);
  });

  test("waits until the time that a 503 names", async () => {
    failTransformer({ status: 503, headers: { "retry-after": new Date(Date.now() + 2500).toUTCString() } });
    const startedMs = performance.now();
    await pull();
    expect(performance.now() - startedMs).toBeGreaterThan(900); // the header has whole seconds
    expect(notices).toEqual([expect.stringMatching(/the server fails with 503; trying again in [123] s\.$/)]);
  });

  test("fetches several files at the same time, and no more than it is told", async () => {
    const open = new Set<string>();
    let most = 0;
    const onProgress: DownloadModelOptions["onProgress"] = (event) => {
      if (event.type !== "bytes") return;
      if (event.receivedBytes < hub.files.get(event.path)!.length) open.add(event.path);
      else open.delete(event.path);
      most = Math.max(most, open.size);
    };
    await pull({}, { parallel: 3, onProgress });
    expect(most).toBe(3);
  });

  test("does not wait an hour for a 429, and says when to come back", async () => {
    hub.fault = () => ({ status: 429, headers: { "retry-after": "3600" } });
    await expect(pull()).rejects.toMatchObject({
      code: "download_failed",
      retryAfterSeconds: 3600,
      message: expect.stringContaining("asks to come back in 60 minutes"),
    });
  });

  test("stops at once when it is cancelled, and keeps what has arrived", async () => {
    const cancelling = new AbortController();
    failTransformer({ stallAfter: 300_000 });
    const work = pull(
      { signal: cancelling.signal, stallTimeoutMs: 60_000 },
      {
        onProgress: (event) => {
          if (event.type === "bytes" && event.path === transformer && event.receivedBytes >= 300_000) {
            cancelling.abort(new Error("enough"));
          }
        },
      },
    );
    await expect(work).rejects.toThrow("enough");
    expect(statSync(join(pullingFolder(folder), `${transformer}.partial`)).size).toBe(300_000);
    expect(readdirSync(dirname(folder))).toEqual([".pulling-tiny"]);
  });

  test("drops the parts of an older commit", async () => {
    failTransformer({ cutAfter: 300_000 }, ...Array.from({ length: 9 }, () => ({ status: 500 })));
    await expect(pull()).rejects.toMatchObject({ code: "download_failed" });
    hub.fault = () => undefined;
    hub.commit = "b".repeat(40);
    const changed = Buffer.from(hub.files.get(transformer)!);
    changed[changed.length - 1]! ^= 1;
    hub.put(transformer, changed);
    hub.requests.length = 0;
    await pull();
    expect(ranges()).toEqual([undefined]);
    expect(readFileSync(join(folder, transformer))).toEqual(changed);
  });
});

describe("a Hub that cannot be trusted", () => {
  test.each([
    "../../outside.json",
    "transformer/../../outside.json",
    "/etc/passwd",
    "transformer\\..\\..\\outside.json",
    "C:/outside.json",
    "vae/./config.json",
    "vae//config.json",
    "vae/config\n.json",
  ])("a file called %j is refused, and nothing is written", async (path) => {
    hub.put(path, Buffer.from("{}"));
    await expect(pull()).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringMatching(/has an impossible name, .*; nothing was downloaded/),
    });
    expect(readdirSync(root)).toEqual([]);
  });

  test("a link that somebody planted in the place of a download is not followed", async () => {
    const victim = join(root, "victim");
    writeFileSync(victim, "precious");
    const partial = join(pullingFolder(folder), `${transformer}.partial`);
    mkdirSync(dirname(partial), { recursive: true });
    symlinkSync(victim, partial);
    await expect(pull()).rejects.toMatchObject({ code: "io_failed" });
    expect(readFileSync(victim, "utf8")).toBe("precious");
  });

  test.each([["file:///etc/passwd"], ["ftp://127.0.0.1/x"], ["http://user:password@127.0.0.1/x"]])(
    "a redirect to %s is refused",
    async (redirectTo) => {
      hub.fault = ({ path }) => (path === transformer ? { redirectTo } : undefined);
      await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining("not safe to follow") });
    },
  );

  test("redirects in circles end", async () => {
    hub.fault = ({ path }) =>
      path === transformer ? { redirectTo: `/${repository}/resolve/${hub.commit}/${path}` } : undefined;
    await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining("redirects in circles") });
    expect(hub.requestsFor(transformer).length).toBe(6);
  });

  test.each<[string, (entry: HubServer["tree"][number]) => object]>([
    ["sizes below zero", (entry) => ({ ...entry, size: -1 })],
    ["sizes beyond counting", (entry) => ({ ...entry, size: 1e300 })],
    ["hashes that are none", (entry) => ({ ...entry, lfs: { oid: "../..", size: 1, pointerSize: 1 } })],
    ["names that are none", (entry) => ({ ...entry, path: 7 })],
  ])("a list with %s is no list", async (_, spoil) => {
    hub.tree = hub.tree.map((entry) => spoil(entry) as typeof entry);
    await expect(pull()).rejects.toMatchObject({
      message: expect.stringContaining("does not answer as a Hugging Face Hub does"),
    });
  });

  test("a server that is not a Hub is recognised", async () => {
    await expect(pull({ endpoint: `${hub.url}/elsewhere` })).rejects.toMatchObject({ code: "model_not_found" });
    hub.fault = () => ({ redirectTo: "/" });
    await expect(pull()).rejects.toMatchObject({ code: "download_failed" });
  });
});

describe("a repository that Easel cannot run", () => {
  test("is refused for another pipeline before its weights are fetched, and leaves nothing", async () => {
    hub.put("model_index.json", Buffer.from('{"_class_name": "StableDiffusionPipeline"}'));
    await expect(pull()).rejects.toMatchObject({
      code: "model_invalid",
      message: expect.stringContaining("is a StableDiffusionPipeline; Easel runs FLUX.1 models"),
    });
    expect(hub.requestsFor(transformer)).toEqual([]);
    expect(readdirSync(dirname(folder))).toEqual([]);
  });

  test.each([
    ["model_index.json", "not in the layout of diffusers"],
    ["vae/diffusion_pytorch_model.safetensors", "its folder vae has no safetensors weights"],
    ["scheduler/scheduler_config.json", "its folder scheduler has no description"],
  ])("is refused without %s", async (path, message) => {
    hub.tree = hub.tree.filter((entry) => entry.path !== path);
    await expect(pull()).rejects.toMatchObject({ code: "model_invalid", message: expect.stringContaining(message) });
    expect(existsSync(dirname(folder))).toBe(false);
  });
});

test("a whole snapshot in the Hugging Face cache is used where it lies", async () => {
  const cache = join(root, "cache", "models--someone--tiny");
  const snapshot = join(cache, "snapshots", hub.commit);
  for (const [path, content] of hub.files) {
    const blob = join(cache, "blobs", path.replaceAll("/", "-"));
    mkdirSync(dirname(blob), { recursive: true });
    mkdirSync(dirname(join(snapshot, path)), { recursive: true });
    writeFileSync(blob, content);
    symlinkSync(blob, join(snapshot, path));
  }
  expect(await pull()).toMatchObject({ outcome: "in the cache", folder: snapshot });
  await checkModelFolder(snapshot);
  expect(hub.requests.every(({ path }: HubRequest) => path.startsWith("/api/"))).toBe(true);

  rmSync(join(cache, "blobs", "vae-config.json"));
  expect(await pull()).toMatchObject({ outcome: "downloaded", folder });
});
