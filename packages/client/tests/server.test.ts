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
