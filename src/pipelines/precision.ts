/** The number formats that networks can run in. */
import { EaselError } from "../errors.ts";

export const precisions = ["fp32", "fp16", "int8", "int4"] as const;
export type Precision = (typeof precisions)[number];

const available = ["fp32", "int8", "int4"] as const;

/** The precisions that this version can use. */
export const availablePrecisions: readonly AvailablePrecision[] = available;
export type AvailablePrecision = (typeof available)[number];

/** What can be asked for: "auto" leaves the choice to the model's size and the memory. */
export const precisionWishes = ["auto", ...available] as const;
export type PrecisionWish = (typeof precisionWishes)[number];

/** Throws `invalid_request` for a precision that cannot be used yet. */
export function availablePrecision(precision: Precision): AvailablePrecision {
  const found = available.find((candidate) => candidate === precision);
  if (found !== undefined) return found;
  throw new EaselError(
    "invalid_request",
    `The precision "${precision}" is not available yet; use ${available.join(" or ")}.`,
    { param: "precision" },
  );
}
