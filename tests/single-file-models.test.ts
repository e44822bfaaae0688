/** Models made of single files: found, put together, and drawn with, against diffusers' pictures of the same weights. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keepAssembly, planAssembly } from "../src/engine/assembled-model.ts";
import { FluxPipeline, type FluxPipelineOptions } from "../src/pipelines/flux-pipeline.ts";
import { autoencoderRules, fluxRules } from "../src/weights/key-map.ts";
import { networkPlaces } from "../src/weights/model-files.ts";
import { fixturesDir, psnr, readRgbImage } from "./oracle-fixtures.ts";
import { asFloat32, readNetwork, renamed, writeGguf } from "./support/single-files.ts";
import { float32, writeSafetensors } from "./support/weight-files.ts";

const dev = join(fixturesDir, "flux-dev-tiny");
const schnell = join(fixturesDir, "flux-schnell-tiny");

let root: string;
beforeAll(() => (root = mkdtempSync(join(tmpdir(), "easel-single-files-"))));
afterAll(() => rmSync(root, { recursive: true }));

const folder = (name: string) => {
  const path = join(root, name);
  mkdirSync(path, { recursive: true });
  return path;
};
const bfl = (model: string) => renamed(readNetwork(join(model, "transformer")), fluxRules);
const bflAutoencoder = (model: string, levels: number) =>
  renamed(readNetwork(join(model, "vae")), autoencoderRules(levels));
const copy = (from: string, to: string) => {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to);
};

/** Files as ComfyUI's users have them; gives the transformer's. */
function comfyFolders(at: string, model = dev): string {
  const models = join(at, "ComfyUI", "models");
  const file = join(models, "unet", "flux", "flux1-dev.safetensors");
  mkdirSync(dirname(file), { recursive: true });
  writeSafetensors(file, asFloat32(bfl(model)));
  copy(join(fixturesDir, "formats", "ae.safetensors"), join(models, "vae", "ae.safetensors"));
  copy(join(model, "text_encoder", "model.safetensors"), join(models, "clip", "clip_l.safetensors"));
  copy(join(model, "text_encoder_2", "model.safetensors"), join(models, "text_encoders", "t5xxl_fp16.safetensors"));
  return file;
}

async function assembled(plan: Parameters<typeof planAssembly>, name: string): Promise<string> {
  return await keepAssembly(join(root, "kept"), name, planAssembly(...plan));
}

interface Case {
  model: string;
  files: string[];
  prompt: string;
  width: number;
  height: number;
  steps: number;
  guidance: number;
  max_sequence_length: number;
  seed: number;
}
const cases = JSON.parse(readFileSync(join(fixturesDir, "pictures", "cases.json"), "utf8")) as Case[];

/** How near the drawn picture is to diffusers', in dB. As in oracle-pictures.test.ts, 45 is rounding alone. */
async function nearness(options: FluxPipelineOptions, model: string): Promise<number> {
  const c = cases.find((candidate) => candidate.model === model)!;
  const pipeline = await FluxPipeline.load(options);
  const { images } = await pipeline.generate({
    prompt: c.prompt,
    width: c.width,
    height: c.height,
    numInferenceSteps: c.steps,
    guidanceScale: c.guidance,
    maxSequenceLength: c.max_sequence_length,
    seed: c.seed,
    numImages: 1,
  });
  await pipeline.dispose();
  return psnr(images[0]!.pixels, (await readRgbImage(`pictures/${c.files[0]}`)).pixels);
}

describe("a model of single files draws diffusers' picture", () => {
  test("from ComfyUI's folders, the rest found by itself and told", async () => {
    const file = comfyFolders(folder("comfy"));
    const assembly = planAssembly({ file, tokenizers: dev }, []);
    expect(assembly.notice).toMatch(
      /^flux1-dev\.safetensors is used with .*vae\/ae\.safetensors, .*clip\/clip_l\.safetensors, .*t5xxl_fp16\.safetensors\.$/,
    );
    const modelDir = await keepAssembly(join(root, "kept"), "comfy", assembly);
    expect(await nearness({ modelDir }, "flux-dev-tiny")).toBeGreaterThanOrEqual(45);
    // int8 of random weights: see precision.test.ts.
    const int8 = await nearness({ modelDir, precision: "int8", cacheDir: folder("cache") }, "flux-dev-tiny");
    expect(int8).toBeGreaterThan(25);
  });

  test("from one checkpoint with everything in it", async () => {
    const file = join(folder("all-in-one"), "schnell.safetensors");
    writeSafetensors(file, {
      ...asFloat32(bfl(schnell), "model.diffusion_model."),
      ...asFloat32(bflAutoencoder(schnell, 3), "vae."),
      ...asFloat32(readNetwork(join(schnell, "text_encoder")), "text_encoders.clip_l.transformer."),
      ...asFloat32(readNetwork(join(schnell, "text_encoder_2")), "text_encoders.t5xxl.transformer."),
    });
    const modelDir = await assembled([{ file, tokenizers: schnell }, []], "schnell");
    expect(await nearness({ modelDir }, "flux-schnell-tiny")).toBeGreaterThanOrEqual(45);
  });

  test("from GGUF files, in fp32 and, their blocks quantized anew, in int8", async () => {
    const at = folder("gguf");
    const file = join(at, "flux1-dev-F32.gguf");
    writeGguf(file, bfl(dev));
    const blocks = join(at, "flux1-dev-Q8_0.gguf");
    writeGguf(blocks, bfl(dev), { quantize: true });
    copy(join(fixturesDir, "formats", "t5.gguf"), join(at, "t5-F32.gguf"));
    copy(join(fixturesDir, "formats", "ae.safetensors"), join(at, "ae.safetensors"));
    copy(join(dev, "text_encoder", "model.safetensors"), join(at, "clip_l.safetensors"));
    const exact = await assembled([{ file, tokenizers: dev }, []], "exact");
    expect(await nearness({ modelDir: exact }, "flux-dev-tiny")).toBeGreaterThanOrEqual(45);
    // Q8_0 rounds random weights to 8 bits; a wrong block layout gives under 15 dB.
    const rounded = await assembled([{ file: blocks, tokenizers: dev }, []], "rounded");
    expect(await nearness({ modelDir: rounded }, "flux-dev-tiny")).toBeGreaterThan(25);
    const int8 = { modelDir: rounded, precision: "int8", cacheDir: folder("cache") } as const;
    expect(await nearness(int8, "flux-dev-tiny")).toBeGreaterThan(20);
  });

  test("from a transformer alone, with what an installed model lends", async () => {
    const file = join(folder("alone"), "finetune.safetensors");
    writeSafetensors(file, asFloat32(bfl(dev)));
    const companions = [
      { name: "FLUX.1-other", folder: schnell }, // other widths
      { name: "FLUX.1-dev", folder: dev },
    ];
    const assembly = planAssembly({ file }, companions);
    expect(assembly.notice).toBe(
      "finetune.safetensors is used with the FLUX autoencoder of FLUX.1-dev, the CLIP text encoder of FLUX.1-dev, " +
        "the T5 encoder of FLUX.1-dev, the tokenizers of FLUX.1-dev.",
    );
    const modelDir = await keepAssembly(join(root, "kept"), "finetune", assembly);
    expect(networkPlaces(modelDir).vae).toBe(join(dev, "vae"));
    expect(await nearness({ modelDir }, "flux-dev-tiny")).toBeGreaterThanOrEqual(45);
    // What was assembled can lend in its turn.
    const again = planAssembly({ file }, [{ name: "finetune", folder: modelDir }]);
    expect(again.networks).toEqual(assembly.networks);
  });

  test("from the folder in which it was published, beside the diffusers folders", async () => {
    const at = folder("published");
    cpSync(dev, at, { recursive: true });
    rmSync(join(at, "transformer"), { recursive: true });
    const file = join(at, "flux1-dev.safetensors");
    writeSafetensors(file, asFloat32(bfl(dev)));
    copy(join(fixturesDir, "formats", "ae.safetensors"), join(at, "ae.safetensors"));
    const assembly = planAssembly({ file, tokenizers: dev }, []);
    expect(assembly.networks.vae).toBe(join(at, "ae.safetensors"));
    expect(assembly.networks.text_encoder).toBe(join(at, "text_encoder", "model.safetensors"));
    const modelDir = await keepAssembly(join(root, "kept"), "published", assembly);
    expect(await nearness({ modelDir }, "flux-dev-tiny")).toBeGreaterThanOrEqual(45);
  });
});

describe("what does not fit", () => {
  let file: string;
  let models: string;
  beforeAll(() => {
    file = comfyFolders(folder("choices"));
    models = join(root, "choices", "ComfyUI", "models");
  });
  test("is passed over in the search: another autoencoder, another CLIP, other people's damaged files", () => {
    const decoys = { vae: "sd.safetensors", clip: "clip_g.safetensors", text_encoders: "broken.safetensors" };
    copy(join(schnell, "vae", "diffusion_pytorch_model.safetensors"), join(models, "vae", decoys.vae));
    copy(join(schnell, "text_encoder", "model.safetensors"), join(models, "clip", decoys.clip));
    writeFileSync(join(models, "text_encoders", decoys.text_encoders), "not weights");
    rmSync(join(models, "vae", "ae.safetensors"));
    copy(join(fixturesDir, "formats", "ae.safetensors"), join(models, "vae", "flux-vae.safetensors"));
    const { networks } = planAssembly({ file, tokenizers: dev }, []);
    expect(networks.vae).toBe(join(models, "vae", "flux-vae.safetensors"));
    expect(networks.text_encoder).toBe(join(models, "clip", "clip_l.safetensors"));
  });

  test("is not guessed: of two with names of their own, one must be chosen; a published name wins", () => {
    const [one, other] = ["one.safetensors", "other.safetensors"].map((name) => join(models, "clip", name));
    for (const path of [one!, other!]) copy(join(dev, "text_encoder", "model.safetensors"), path);
    const published = join(models, "clip", "clip_l.safetensors");
    expect(planAssembly({ file, tokenizers: dev }, []).networks.text_encoder).toBe(published);
    rmSync(published);
    expect(() => planAssembly({ file, tokenizers: dev }, [])).toThrow(
      /^Several files near flux1-dev\.safetensors hold a CLIP text encoder that fits: .*one\.safetensors, .*other\.safetensors; choose with: easel pull .* --clip FILE$/,
    );
    const chosen = planAssembly({ file, given: { text_encoder: other! }, tokenizers: dev }, []);
    expect(chosen.networks.text_encoder).toBe(other);
    for (const path of [one!, other!]) rmSync(path);
  });

  test("is named when it is missing, given and wrong, or nothing that Easel knows", () => {
    expect(() => planAssembly({ file, tokenizers: dev }, [])).toThrow(
      /needs a CLIP text encoder that fits it, and there is none near it .* easel pull .*flux1-dev\.safetensors --clip FILE$/,
    );
    const clip = join(schnell, "text_encoder");
    expect(() => planAssembly({ file, given: { text_encoder: clip } }, [])).toThrow(
      "The CLIP text encoder in text_encoder does not fit the transformer in flux1-dev.safetensors",
    );
    const vae = join(fixturesDir, "formats", "ae.safetensors");
    expect(() => planAssembly({ file: vae }, [])).toThrow(
      "ae.safetensors holds only a FLUX autoencoder; give the transformer's file, and this one with --vae.",
    );
    const other = join(folder("others"), "sd.safetensors");
    writeSafetensors(other, { "unet.weight": float32([1], [0]) });
    expect(() => planAssembly({ file: other }, [])).toThrow("sd.safetensors holds no network of a FLUX.1 model");
    const fill = join(root, "others", "fill.safetensors");
    const { "img_in.weight": input, ...rest } = bfl(dev);
    const wider = { shape: [input!.shape[0]!, 384], values: new Float32Array(input!.shape[0]! * 384) };
    writeSafetensors(fill, asFloat32({ "img_in.weight": wider, ...rest }));
    expect(() => planAssembly({ file: fill }, [])).toThrow("draws from other inputs than text (as Fill, Canny");
    expect(() => planAssembly({ file: join(root, "nowhere.gguf") }, [])).toThrow("There is nothing at");
  });

  test("is refused before anything is written: other tokenizers, none, or a transformer with a tensor missing", async () => {
    const at = comfyFolders(folder("refused"));
    const kept = folder("kept-of-refused");
    expect(() => planAssembly({ file: at, tokenizers: schnell }, [])).toThrow(
      "are those of another CLIP text encoder, with another vocabulary",
    );
    const none = planAssembly({ file: at, tokenizers: dev }, []);
    await expect(keepAssembly(kept, "none", { ...none, tokenizers: undefined })).rejects.toThrow(
      "needs CLIP's and T5's tokenizers, which such files do not hold and no installed model has: fetch them with: easel pull",
    );
    const { "final_layer.linear.bias": _, ...incomplete } = bfl(dev);
    writeSafetensors(at, asFloat32(incomplete));
    await expect(keepAssembly(kept, "incomplete", planAssembly({ file: at, tokenizers: dev }, []))).rejects.toThrow(
      'The weights in "flux1-dev.safetensors" lack the tensor "proj_out.bias".',
    );
    expect(readdirSync(kept)).toEqual([]);
  });

  test("of a size that is not FLUX.1's needs somebody to tell the rest", () => {
    const at = comfyFolders(folder("sizes"));
    const tokenizers = folder("tokenizers-alone");
    for (const name of ["tokenizer", "tokenizer_2"])
      cpSync(join(dev, name), join(tokenizers, name), { recursive: true });
    expect(() => planAssembly({ file: at, tokenizers }, [])).toThrow(
      /has another size than FLUX\.1's, .* give with --tokenizers a model folder that has transformer\/config\.json\.$/,
    );
  });
});
