/**
 * Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): W + scale · alpha / rank · B A. Reads what the trainers of FLUX's
 * adapters write (see `lora-keys.ts`) and gives each layer's change under diffusers' names; the sums are diffusers'
 * `fuse_lora`. Adapters are small: their factors are read when they are asked for and not kept.
 */
import { basename } from "node:path";
import { WeightsInvalidError } from "../errors.ts";
import { rowSpans } from "./key-map.ts";
import { type LoraComponent, type LoraRole, loraTargets, parseLoraKey } from "./lora-keys.ts";
import { readSafetensorsHeader, readSafetensorsMetadata } from "./safetensors.ts";
import { readTensor } from "./tensor-data.ts";
import { selectRows, type TensorLocation, valueCount } from "./tensor-location.ts";
import type { WeightSource } from "./weight-source.ts";

export type { LoraComponent } from "./lora-keys.ts";

/** One change of a linear layer's weight [out, in]: scale · up · down. */
export interface LowRankFactors {
  /** alpha / rank, or alpha / √rank where the file says so (rank-stabilised LoRA). */
  scale: number;
  /** B [out, rank] */
  up: TensorLocation;
  /** A [rank, in] */
  down: TensorLocation;
}

/** An adapter and how strongly to apply it. */
export interface ScaledLora {
  lora: Lora;
  /** 1: as trained. May be negative. */
  scale: number;
}

/** An opened LoRA file. Made by `openLora`. */
export class Lora {
  /** The file's name, for messages. */
  readonly label: string;
  readonly #changes: ReadonlyMap<LoraComponent, ReadonlyMap<string, readonly LowRankFactors[]>>;

  constructor(label: string, changes: ReadonlyMap<LoraComponent, ReadonlyMap<string, readonly LowRankFactors[]>>) {
    this.label = label;
    this.#changes = changes;
  }

  /** The tensors of `component` that it changes. */
  tensorNames(component: LoraComponent): string[] {
    return [...(this.#changes.get(component)?.keys() ?? [])];
  }

  /** What it adds to one tensor: usually nothing or one product. */
  factors(component: LoraComponent, tensorName: string): readonly LowRankFactors[] {
    return this.#changes.get(component)?.get(withoutTextModel(tensorName)) ?? [];
  }

  /**
   * Checks that it was made for this network.
   *
   * @throws WeightsInvalidError naming the first layer that `weights` lacks or has in another shape.
   */
  requireFit(component: LoraComponent, weights: WeightSource): void {
    const shapes = new Map(weights.names().map((name) => [withoutTextModel(name), weights.shapeOf(name)]));
    for (const name of this.tensorNames(component)) {
      const shape = shapes.get(name);
      if (shape === undefined)
        throw misfit(this.label, `it changes "${name}", which the model's ${component} does not have`);
      for (const factors of this.factors(component, name)) requireShape(this.label, name, factors, shape);
    }
  }
}

/**
 * Opens a LoRA file.
 *
 * @throws WeightsInvalidError when the file is damaged, changes layers that FLUX does not have, or holds another kind of
 *   adapter (DoRA, LoKr, LoHa, whole weights).
 */
export function openLora(path: string): Lora {
  const label = basename(path);
  const layers = groupByLayer(label, readSafetensorsHeader(path));
  const configuredAlpha = readAdapterMetadata(path);

  const changes = new Map<LoraComponent, Map<string, LowRankFactors[]>>();
  const unknown: string[] = [];
  for (const [layer, parts] of layers) {
    const found = loraTargets(layer);
    if (found === undefined) {
      unknown.push(layer);
      continue;
    }
    const { component, targets } = found;
    const { up, down, scale } = factorsOf(label, layer, parts, (rank) => configuredAlpha(layer, rank));
    for (const target of targets) {
      const byName = changes.get(component) ?? new Map<string, LowRankFactors[]>();
      changes.set(component, byName);
      const name = `${target.name}.weight`;
      const rows = selectRows(up, rowSpans(target, up.shape[0]!, up.name));
      byName.set(name, [...(byName.get(name) ?? []), { scale, up: rows, down }]);
    }
  }
  if (unknown.length > 0) {
    const others = unknown.length === 1 ? "" : ` and ${unknown.length - 1} more`;
    throw new WeightsInvalidError(
      `${label} is not a LoRA for FLUX.1: it changes "${unknown[0]}"${others}, which FLUX.1 does not have.`,
    );
  }
  if (changes.size === 0) throw new WeightsInvalidError(`${label} is not a LoRA: it holds no low-rank factors.`);
  return new Lora(label, changes);
}

/**
 * What the given adapters add to one tensor: float32 [out, in], row-major; undefined when none changes it.
 *
 * @throws WeightsInvalidError when an adapter was made for another shape.
 */
export function loraDelta(
  loras: readonly ScaledLora[],
  component: LoraComponent,
  tensorName: string,
  shape: readonly number[],
): Float32Array | undefined {
  let delta: Float32Array | undefined;
  for (const { lora, scale } of loras) {
    for (const factors of lora.factors(component, tensorName)) {
      requireShape(lora.label, tensorName, factors, shape);
      delta ??= new Float32Array(valueCount(shape));
      addProduct(delta, scale * factors.scale, readTensor(factors.up), readTensor(factors.down), factors.down.shape);
    }
  }
  return delta;
}

type Parts = Partial<Record<LoraRole, TensorLocation>>;

function groupByLayer(label: string, tensors: ReadonlyMap<string, TensorLocation>): Map<string, Parts> {
  const layers = new Map<string, Parts>();
  for (const [name, tensor] of tensors) {
    const key = parseLoraKey(name);
    if (key === undefined) {
      throw new WeightsInvalidError(
        `${label} cannot be applied: "${name}" is no part of a plain LoRA (DoRA, LoKr, LoHa and whole weights are not supported).`,
      );
    }
    const parts = layers.get(key.layer) ?? {};
    layers.set(key.layer, parts);
    if (parts[key.role] !== undefined) {
      throw new WeightsInvalidError(`${label} is damaged: it changes "${key.layer}" twice under two spellings.`);
    }
    parts[key.role] = tensor;
  }
  return layers;
}

function factorsOf(
  label: string,
  layer: string,
  { up, down, alpha }: Parts,
  configuredScale: (rank: number) => number | undefined,
): LowRankFactors {
  if (up === undefined || down === undefined) {
    throw new WeightsInvalidError(`${label} is damaged: it has only one of the two factors of "${layer}".`);
  }
  const rank = down.shape[0];
  if (up.shape.length !== 2 || down.shape.length !== 2 || rank === 0 || up.shape[1] !== rank) {
    throw new WeightsInvalidError(
      `${label} is damaged: the factors of "${layer}" have the shapes [${up.shape.join(", ")}] and [${down.shape.join(", ")}].`,
    );
  }
  if (alpha === undefined) return { up, down, scale: configuredScale(rank!) ?? 1 };
  const value = valueCount(alpha.shape) === 1 ? readTensor(alpha)[0]! : Number.NaN;
  if (!Number.isFinite(value)) throw new WeightsInvalidError(`${label} is damaged: "${alpha.name}" is not a number.`);
  return { up, down, scale: value / rank! };
}

/**
 * diffusers and PEFT write a LoRA's alphas into the file's metadata: one per network, and a pattern for layers that differ,
 * keyed by the ends of module names. Gives a layer's scale for its rank, where the file says one.
 */
function readAdapterMetadata(path: string): (layer: string, rank: number) => number | undefined {
  const text = readSafetensorsMetadata(path).get("lora_adapter_metadata");
  let settings: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(text ?? "{}");
    if (typeof parsed === "object" && parsed !== null) settings = parsed as Record<string, unknown>;
  } catch (cause) {
    throw new WeightsInvalidError(`${basename(path)} is damaged: its "lora_adapter_metadata" is not JSON.`, { cause });
  }
  return (layer, rank) => {
    const network = layer.slice(0, Math.max(layer.indexOf("."), 0));
    const pattern = settings[`${network}.alpha_pattern`];
    const own = Object.entries(typeof pattern === "object" && pattern !== null ? pattern : {}).find(([end]) =>
      `.${layer}`.endsWith(`.${end}`),
    );
    const alpha: unknown = own?.[1] ?? settings[`${network}.lora_alpha`];
    if (typeof alpha !== "number" || !Number.isFinite(alpha)) return undefined;
    return alpha / (settings[`${network}.use_rslora`] === true ? Math.sqrt(rank) : rank);
  };
}

function requireShape(label: string, name: string, { up, down }: LowRankFactors, shape: readonly number[]): void {
  const made = [up.shape[0]!, down.shape[1]!];
  if (shape.length === 2 && shape[0] === made[0] && shape[1] === made[1]) return;
  throw misfit(
    label,
    `it changes "${name}" of shape [${made.join(", ")}], which is [${shape.join(", ")}] in the model`,
  );
}

function misfit(label: string, reason: string): WeightsInvalidError {
  return new WeightsInvalidError(`${label} is a LoRA for another model: ${reason}.`);
}

/** transformers 5 names CLIP's tensors without the prefix that all before it used. */
function withoutTextModel(name: string): string {
  return name.startsWith("text_model.") ? name.slice("text_model.".length) : name;
}

/** sum [out, in] += scale · up [out, rank] · down [rank, in], four ranks a pass: fewer passes over the long rows. */
function addProduct(
  sum: Float32Array,
  scale: number,
  up: Float32Array,
  down: Float32Array,
  [rank, width]: readonly number[],
): void {
  const ranks = rank!;
  const columns = width!;
  const at = (row: number, k: number) => (k < ranks ? scale * up[row * ranks + k]! : 0);
  for (let row = 0; row * columns < sum.length; row++) {
    const out = sum.subarray(row * columns, (row + 1) * columns);
    for (let k = 0; k < ranks; k += 4) {
      const [u0, u1, u2, u3] = [at(row, k), at(row, k + 1), at(row, k + 2), at(row, k + 3)];
      // Past the last rank the factor is 0 and any row of `down` will do.
      const a1 = k + 1 < ranks ? (k + 1) * columns : 0;
      const a2 = k + 2 < ranks ? (k + 2) * columns : 0;
      const a3 = k + 3 < ranks ? (k + 3) * columns : 0;
      const a0 = k * columns;
      for (let i = 0; i < columns; i++) {
        out[i]! += u0 * down[a0 + i]! + u1 * down[a1 + i]! + u2 * down[a2 + i]! + u3 * down[a3 + i]!;
      }
    }
  }
}
