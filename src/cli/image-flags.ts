/** `--image`, `--mask` and `--strength`: files of this machine as what a generation starts from. */
import { readFileSync } from "node:fs";
import type { Config } from "../config.ts";
import { readImageInput } from "../engine/image-input.ts";
import { EaselError } from "../errors.ts";
import type { ImageCondition } from "../pipelines/image-conditioning.ts";

export interface ImageFlags {
  image?: string | undefined;
  mask?: string | undefined;
  strength?: number | undefined;
}

/** What the flags give to start from; undefined without `--image`. Throws `invalid_request` naming the flag at fault. */
export async function readImageFlags(
  { image, mask, strength }: ImageFlags,
  { maxUploadPixels }: Pick<Config, "maxUploadPixels">,
): Promise<ImageCondition | undefined> {
  if (image === undefined) {
    if (mask !== undefined) throw needsImage("--mask");
    if (strength !== undefined) throw needsImage("--strength");
    return undefined;
  }
  const files = {
    image: readInputFile(image, "--image"),
    mask: mask === undefined ? undefined : readInputFile(mask, "--mask"),
  };
  return await readImageInput(
    { ...files, strength },
    { image: "--image", mask: "--mask" },
    { maxPixels: maxUploadPixels },
  );
}

/** A file that the command line names, by `flag` or as an argument. Throws `invalid_request` when it cannot be read. */
export function readInputFile(path: string, flag?: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    const reason =
      code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : "it cannot be read";
    throw new EaselError("invalid_request", `${flag === undefined ? "" : `${flag} `}${path}: ${reason}.`, {
      param: flag,
      cause,
    });
  }
}

function needsImage(flag: string): EaselError {
  return new EaselError("invalid_request", `${flag} needs --image, the picture to start from.`, { param: flag });
}
