/** The client against a real server with a tiny model of random weights. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EaselServer, longRequest, pngHeader, startServer } from "../../../tests/support/easel-server.ts";
import { Easel, NotFoundError } from "../src/index.ts";

let server: EaselServer;
let easel: Easel;
beforeAll(async () => {
  server = await startServer();
  easel = new Easel({ apiKey: server.key, baseURL: server.url });
});
afterAll(() => server[Symbol.asyncDispose]());

const tiny = { prompt: "a cat", size: "64x64", steps: 4, seed: 7 } as const;
const picture = readFileSync(new URL("../../../tests/fixtures/pictures/flux-dev-tiny/plain-0.png", import.meta.url));
const sizeOf = (bytes: Uint8Array) => `${pngHeader(bytes).width}x${pngHeader(bytes).height}`;

describe("the client of a real server", () => {
  it("generates, edits, varies and enlarges", async () => {
    const generated = (await easel.generate(tiny)).images[0]!;
    expect(generated).toMatchObject({ seed: 7, size: "64x64", model: "flux-dev-tiny" });
    const edited = (await easel.edit({ ...tiny, image: picture, strength: 0.5 })).images[0]!;
    const { prompt: _, ...options } = tiny;
    const varied = (await easel.variations({ ...options, image: picture })).images[0]!;
    const enlarged = await easel.upscale({ image: picture, scale: 2 });
    const sizes = [generated, edited, varied, enlarged].map(({ bytes }) => sizeOf(bytes));
    expect(sizes).toEqual(["64x64", "64x64", "64x64", "128x128"]);
    expect(edited.bytes).not.toEqual(generated.bytes);
  });

  it("shows previews and then the picture that generate gives", async () => {
    const events = await Array.fromAsync(easel.stream({ ...tiny, partialImages: 2 }));
    expect(events.map(({ type }) => type)).toEqual(["partial", "partial", "completed"]);
    expect(events.at(-1)!.image.bytes).toEqual((await easel.generate(tiny)).images[0]!.bytes);
  });

  it("shows an edit on the way, too", async () => {
    const events = await Array.fromAsync(easel.stream({ ...tiny, image: picture, strength: 1, partialImages: 1 }));
    expect(events.map(({ type }) => type)).toEqual(["partial", "completed"]);
    expect(events.at(-1)).toMatchObject({ usage: { outputTokens: 16 }, notices: [] });
  });

  it("orders jobs that start from a picture", async () => {
    const { prompt: _, ...options } = tiny;
    const edited = await easel.jobs.create({ ...tiny, image: picture, strength: 0.5 });
    const varied = await easel.jobs.create({ ...options, image: picture });
    const waited = await easel.edit({ ...tiny, image: picture, strength: 0.5 });
    expect((await easel.jobs.wait(edited.id)).result!.images).toEqual(waited.images);
    expect((await easel.jobs.wait(varied.id)).result!.images[0]).toMatchObject({ size: "64x64" });
  });

  it("names several LoRAs in a form as in JSON", async () => {
    const lora = ["lora-diffusers:0.5", "lora-diffusers:0.5"];
    const [applied, plain] = [
      await easel.edit({ ...tiny, image: picture, lora }),
      await easel.edit({ ...tiny, image: picture }),
    ];
    expect(applied.images[0]!.bytes).not.toEqual(plain.images[0]!.bytes);
    await expect(easel.edit({ ...tiny, image: picture, lora: ["none", "none"] })).rejects.toMatchObject({
      param: "lora",
    });
  });

  it("says what a picture was enlarged from, and lists the models with their limits", async () => {
    const { images, usage } = await easel.generate({ ...tiny, upscale: 2 });
    expect(images[0]).toMatchObject({ size: "128x128", upscaledFrom: "64x64" });
    expect(usage).toMatchObject({ outputTokens: 16 });
    const enlarged = await easel.upscale({ image: picture, scale: 2, outputFormat: "jpeg" });
    expect(enlarged).toMatchObject({ size: "128x128", upscaledFrom: "64x64" });
    expect(Buffer.from(enlarged.bytes).toString("hex", 0, 3)).toBe("ffd8ff");
    expect(await easel.models()).toContainEqual(
      expect.objectContaining({ id: "flux-dev-tiny", maxSide: 2048, maxImages: 10, drawsAnySize: true }),
    );
  });

  it("orders a job, follows it, and gets its pictures", async () => {
    const { id } = await easel.jobs.create(tiny);
    const job = await easel.jobs.wait(id);
    expect(job).toMatchObject({ id, status: "succeeded", model: "flux-dev-tiny" });
    expect(sizeOf(job.result!.images[0]!.bytes)).toBe("64x64");
  });

  it("cancels a job while it is drawn", async () => {
    const { id } = await easel.jobs.create(longRequest);
    await expect.poll(async () => (await easel.jobs.get(id)).status).toBe("running");
    await easel.jobs.cancel(id);
    await expect(easel.jobs.wait(id)).rejects.toMatchObject({ code: "cancelled" });
    await expect(easel.jobs.get("job_nothing")).rejects.toBeInstanceOf(NotFoundError);
  });
});
