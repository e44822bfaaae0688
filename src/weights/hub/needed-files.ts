/** Which files of a published FLUX model Easel reads: the diffusers folders, in one precision. */
import { ModelInvalidError } from "../../errors.ts";
import type { HubFile } from "./hub-client.ts";

export const modelIndex = "model_index.json";
const networks = ["text_encoder", "text_encoder_2", "transformer", "vae"];
const descriptions = ["scheduler", "tokenizer", "tokenizer_2"];

/** Full weights and their shards; variants (`.fp16.`) have more in their names. */
const plainWeights = /^(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors$/;
const plainIndex = /^(diffusion_pytorch_model|model)\.safetensors\.index\.json$/;

/**
 * The subset of `files`: `model_index.json`, Easel's own card if there is one, and of each part the JSON and text files
 * and the full-precision safetensors. Single files beside the folders, other formats and variants stay out.
 * Throws `model_invalid` when a part is missing.
 */
export function neededFiles(repository: string, files: readonly HubFile[]): HubFile[] {
  const top = files.filter(({ path }) => path === modelIndex || path === "easel.json");
  if (!top.some(({ path }) => path === modelIndex)) {
    throw new ModelInvalidError(
      `${repository} is not in the layout of diffusers (it has no ${modelIndex}), the only one that can be pulled for now.`,
    );
  }
  const parts = [...networks, ...descriptions].flatMap((part) => {
    const inPart = files.filter(({ path }) => parentOf(path) === part);
    const texts = inPart.filter(({ path }) => /\.(json|txt)$/.test(path) && !/\.index\.[^/]*json$/.test(path));
    const weights = networks.includes(part) ? chooseWeights(inPart) : [];
    if (texts.length === 0 || (networks.includes(part) && weights.length === 0)) {
      throw new ModelInvalidError(
        `${repository} cannot be run: its folder ${part} has no ${texts.length === 0 ? "description" : "safetensors weights"}.`,
      );
    }
    return [...texts, ...weights];
  });
  return [...top, ...parts];
}

/** The sharded weights with their index, else the single file; as `WeightSource` chooses when it reads them. */
function chooseWeights(files: readonly HubFile[]): HubFile[] {
  const plain = files.filter(({ path }) => plainWeights.test(baseOf(path)));
  const index = files.find(({ path }) => plainIndex.test(baseOf(path)));
  if (index) {
    const stem = baseOf(index.path).replace(".safetensors.index.json", "-");
    return [index, ...plain.filter(({ path }) => baseOf(path).startsWith(stem))];
  }
  if (plain.length > 0) return plain;
  const all = files.filter(({ path }) => path.endsWith(".safetensors"));
  return all.length === 1 ? all : [];
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function baseOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
