/** The number formats that networks can run in. */
import { EaselError } from "../errors.ts";

export const precisions = ["fp32", "fp16", "int8", "int4"] as const;
export type Precision = (typeof precisions)[number];

const available = ["fp32", "int8", "int4"] as const;

/** The precisions that this version can use. */
export const availablePrecisions: readonly Precision[] = available;

/** Throws `invalid_request` for a precision that cannot be used yet. */
export function availablePrecision(precision: Precision): (typeof available)[number] {
  const found = available.find((candidate) => candidate === precision);
  if (found !== undefined) return found;
  throw new EaselError(
    "invalid_request",
    `The precision "${precision}" is not available yet; use ${available.join(" or ")}.`,
    { param: "precision" },
  );
}
