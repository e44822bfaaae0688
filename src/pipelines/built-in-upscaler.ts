/** The enlarging network that comes with Easel. */
import { fileURLToPath } from "node:url";
import type { UpscaleFactor } from "../images/upscale.ts";

export const builtInUpscaler = "easel-upscale";

/** Its weights, of which there are some for each factor. */
export function builtInUpscalerFile(factor: UpscaleFactor): string {
  return fileURLToPath(new URL(`../../models/${builtInUpscaler}/x${factor}.safetensors`, import.meta.url));
}
