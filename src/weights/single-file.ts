/**
 * One network out of a single checkpoint file, safetensors or GGUF, under diffusers' names: as Black Forest Labs publish the
 * transformer and the autoencoder, as ComfyUI's users have the text encoders, or all four in one file behind prefixes.
 */
import { basename } from "node:path";
import { ModelInvalidError, WeightsInvalidError } from "../errors.ts";
import { isGguf, readGgufHeader } from "./gguf.ts";
import { autoencoderRules, fluxRules, KeyMap, rowSpans, t5GgufRules, type Target } from "./key-map.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { readTensor } from "./tensor-data.ts";
import { selectRows, type TensorLocation, valueCount } from "./tensor-location.ts";

/** FLUX's networks, by the folders that diffusers keeps them in. */
export const components = ["transformer", "vae", "text_encoder", "text_encoder_2"] as const;
export type Component = (typeof components)[number];

/** A way to name a network's tensors. */
interface Naming {
  /** A tensor that only files with this naming have. */
  marker: string;
  /** How to translate; absent when the names are diffusers' already. */
  keyMap?: (names: Iterable<string>) => KeyMap;
}

/** What each network is called in messages. */
export const titles: Readonly<Record<Component, string>> = {
  transformer: "FLUX transformer",
  vae: "FLUX autoencoder",
  text_encoder: "CLIP text encoder",
  text_encoder_2: "T5 encoder",
};

/** What may stand before each network's tensors' names, and how these may be given. */
const networks: Readonly<Record<Component, { prefixes: readonly string[]; namings: readonly Naming[] }>> = {
  transformer: {
    prefixes: ["", "model.diffusion_model.", "diffusion_model.", "transformer."],
    namings: [{ marker: "img_in.weight", keyMap: () => new KeyMap(fluxRules) }, { marker: "x_embedder.weight" }],
  },
  vae: {
    prefixes: ["", "vae.", "first_stage_model."],
    namings: [
      {
        marker: "decoder.mid.block_1.conv1.weight",
        keyMap: (names) => new KeyMap(autoencoderRules(countLevels(names))),
      },
      { marker: "decoder.mid_block.resnets.0.conv1.weight" },
    ],
  },
  text_encoder: {
    prefixes: ["", "text_encoders.clip_l.transformer.", "text_encoders.clip_l.", "text_encoder."],
    namings: [{ marker: "text_model.final_layer_norm.weight" }, { marker: "final_layer_norm.weight" }],
  },
  text_encoder_2: {
    prefixes: ["", "text_encoders.t5xxl.transformer.", "text_encoders.t5xxl.", "text_encoder_2."],
    namings: [
      { marker: "encoder.final_layer_norm.weight" },
      { marker: "enc.output_norm.weight", keyMap: () => new KeyMap(t5GgufRules) },
    ],
  },
};

/**
 * The tensors of `component` in the file at `path`, by diffusers' names. Fused layers become row ranges of the one tensor;
 * scales that stand beside 8-bit weights become the locations' `scale`. Tensors of other networks are left out.
 *
 * @throws ModelInvalidError when the file holds no such network.
 * @throws WeightsInvalidError when the file is damaged.
 */
export function readSingleFile(path: string, component: Component): Map<string, TensorLocation> {
  const stored = readHeader(path);
  const found = findNaming(stored, component);
  if (found === undefined) {
    const markers = networks[component].namings.map(({ marker }) => `"${marker}"`);
    throw new ModelInvalidError(
      `${basename(path)} holds no ${titles[component]} that Easel knows: none of its ${stored.size} tensors is named ` +
        `${markers.join(" or ")}.`,
    );
  }
  if (stored.keys().some((name) => name.endsWith(".quant_map"))) {
    throw new ModelInvalidError(
      `${basename(path)} was quantized by bitsandbytes (nf4 or fp4), which Easel cannot read; take an fp8 or a GGUF file instead.`,
    );
  }
  return translate(withoutPrefix(stored, found.prefix), found.naming);
}

/**
 * Which networks the file at `path` holds; none when it is something else.
 *
 * @throws WeightsInvalidError when the file is damaged.
 */
export function networksIn(path: string): Component[] {
  const stored = readHeader(path);
  return components.filter((component) => findNaming(stored, component) !== undefined);
}

function readHeader(path: string): Map<string, TensorLocation> {
  return isGguf(path) ? readGgufHeader(path).tensors : readSafetensorsHeader(path);
}

function findNaming(stored: ReadonlyMap<string, TensorLocation>, component: Component) {
  const { prefixes, namings } = networks[component];
  for (const prefix of prefixes) {
    const naming = namings.find(({ marker }) => stored.has(prefix + marker));
    if (naming !== undefined) return { prefix, naming };
  }
  return undefined;
}

/** What a network's tensors end in; scales of 8-bit weights, position ids and other bookkeeping end otherwise. */
const weightName = /\.(?:weight|bias|scale)$/;

function withoutPrefix(stored: ReadonlyMap<string, TensorLocation>, prefix: string): Map<string, TensorLocation> {
  const named = [...stored].filter(([name]) => name.startsWith(prefix));
  return new Map(named.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

function translate(stored: ReadonlyMap<string, TensorLocation>, naming: Naming): Map<string, TensorLocation> {
  const keyMap = naming.keyMap?.(stored.keys());
  const tensors = new Map<string, TensorLocation>();
  for (const [storedName, tensor] of stored) {
    if (!weightName.test(storedName)) continue;
    const scaled = withScale(tensor, storedName, stored);
    const targets: Target[] = keyMap === undefined ? [{ name: storedName }] : keyMap.tensor(storedName);
    for (const target of targets) tensors.set(target.name, locateTarget(scaled, target));
  }
  return tensors;
}

function locateTarget(tensor: TensorLocation, target: Target): TensorLocation {
  const [rowCount = 1] = tensor.shape;
  const part = target.rows === undefined ? tensor : selectRows(tensor, rowSpans(target, rowCount, tensor.name));
  const isOneByOne = target.fromConv === true && part.shape.length === 4 && part.shape[2] === 1 && part.shape[3] === 1;
  return { ...part, name: target.name, shape: isOneByOne ? part.shape.slice(0, 2) : part.shape };
}

/** ComfyUI's scaled 8-bit weights: a scalar beside each, under its first or its later name. */
function withScale(tensor: TensorLocation, name: string, stored: ReadonlyMap<string, TensorLocation>): TensorLocation {
  if (!name.endsWith(".weight")) return tensor;
  const module = name.slice(0, -".weight".length);
  const scale = stored.get(`${module}.scale_weight`) ?? stored.get(`${module}.weight_scale`);
  if (scale === undefined) return tensor;
  if (valueCount(scale.shape) !== 1) {
    throw new WeightsInvalidError(
      `${basename(scale.file)} has scales of shape [${scale.shape.join(", ")}] in "${scale.name}"; one scale a tensor is supported.`,
    );
  }
  const value = readTensor(scale)[0]!;
  if (!Number.isFinite(value))
    throw new WeightsInvalidError(`${basename(scale.file)} has no number in "${scale.name}".`);
  return { ...tensor, scale: value };
}

function countLevels(names: Iterable<string>): number {
  let levels = 0;
  for (const name of names) {
    const level = /^(?:encoder\.down|decoder\.up)\.(\d{1,2})\./.exec(name)?.[1];
    if (level !== undefined) levels = Math.max(levels, Number(level) + 1);
  }
  return levels;
}
