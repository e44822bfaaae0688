/** The number formats that networks can run in. */
import { EaselError } from "../errors.ts";

export const precisions = ["fp32", "fp16", "int8", "int4"] as const;
export type Precision = (typeof precisions)[number];

/** What the CPU gains from. It has no half-precision products: fp16 takes the time and the memory of fp32 there. */
export const cpuPrecisions = ["fp32", "int8", "int4"] as const satisfies readonly Precision[];

/** What GPUs can run. ONNX Runtime has int8's products for the CPU alone; not every GPU has fp16's. */
export const gpuPrecisions: readonly Precision[] = ["fp32", "fp16", "int4"];

/** What can be asked for: "auto" leaves the choice to the device, the model's size and the memory. */
export const precisionWishes = ["auto", ...precisions] as const;
export type PrecisionWish = (typeof precisionWishes)[number];

/** Throws `invalid_request` for a precision that there is not, since not all callers are checked by a compiler. */
export function knownPrecision(precision: string): Precision {
  const found = precisions.find((candidate) => candidate === precision);
  if (found !== undefined) return found;
  throw new EaselError("invalid_request", `There is no precision "${precision}"; use ${precisions.join(", ")}.`, {
    param: "precision",
  });
}
