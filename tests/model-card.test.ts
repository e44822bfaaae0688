/** What a model's card, easel.json, changes in what is drawn. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { fixturesDir } from "./oracle-fixtures.ts";

let root: string;
beforeAll(() => (root = mkdtempSync(join(tmpdir(), "easel-card-"))));
afterAll(() => rmSync(root, { recursive: true }));

/** Draws with a copy of a tiny pipeline that has this card. */
async function draw(model: string, card: object | undefined, params: Partial<GenerationParams> = {}) {
  const modelDir = mkdtempSync(join(root, "model-"));
  cpSync(join(fixturesDir, model), modelDir, { recursive: true });
  if (card !== undefined) writeFileSync(join(modelDir, "easel.json"), JSON.stringify(card));
  const pipeline = await FluxPipeline.load({ modelDir });
  const size = { width: 64, height: 64 };
  const result = await pipeline.generate({
    prompt: "a cat",
    ...size,
    seed: 1,
    numImages: 1,
    numInferenceSteps: 2,
    ...params,
  });
  await pipeline.dispose();
  return { ...result, image: result.images[0]! };
}

describe("a model's card", () => {
  test("may ask for classifier-free guidance on every picture", async () => {
    const carded = await draw("flux-schnell-tiny", { trueCfgScale: 3 });
    const asked = await draw("flux-schnell-tiny", undefined, { negativePrompt: "", trueCfgScale: 3 });
    expect(carded.image.pixels).toEqual(asked.image.pixels);
    expect(carded.trueCfgScale).toBe(3);
  });

  test("lets the guidance scale of a request be that guidance, when the model has no other", async () => {
    const guided = await draw("flux-schnell-tiny", { trueCfgScale: 3 }, { guidanceScale: 2 });
    const asked = await draw("flux-schnell-tiny", undefined, { negativePrompt: "", trueCfgScale: 2 });
    expect(guided.image.pixels).toEqual(asked.image.pixels);
    expect(guided.notices).toEqual([]);
  });

  test("may name the one size a model has learnt; other sizes are made from it, and the answer says so", async () => {
    const { image, notices } = await draw("flux-dev-tiny", { nativeSize: 64 }, { width: 128, height: 128 });
    expect(image).toMatchObject({ width: 128, height: 128, drawnWidth: 64, drawnHeight: 64 });
    expect(notices).toEqual(["This model draws 64x64; the picture was enlarged to 128x128 by easel-upscale."]);
  });

  test("gives the steps and the tokens to read when a request leaves them open", async () => {
    const card = { steps: 3, maxSequenceLength: 16 };
    const { numInferenceSteps, notices } = await draw("flux-dev-tiny", card, {
      numInferenceSteps: undefined,
      prompt: "a white cat and a black dog, ".repeat(20),
    });
    expect(numInferenceSteps).toBe(3);
    expect(notices.join()).toContain("the 16 tokens that are read");
  });
});
