/**
 * Where a model's networks lie. In a folder of the diffusers layout each has its own subfolder; a folder with an
 * `easel-files.json` says for each which file it is in, or which folder elsewhere, and otherwise looks the same.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, isAbsolute, join } from "node:path";
import { z } from "zod";
import { ModelInvalidError } from "../errors.ts";
import { type Component, components } from "./single-file.ts";
import { WeightSource } from "./weight-source.ts";

/** Each network's checkpoint file, or folder in the diffusers layout: absolute paths. */
export type NetworkPlaces = Readonly<Record<Component, string>>;

const descriptionFile = "easel-files.json";

const place = z.string().refine(isAbsolute);
const descriptionSchema = z.object({
  version: z.literal(1),
  networks: z.object({ transformer: place, vae: place, text_encoder: place, text_encoder_2: place }),
});

/** The description of a folder whose networks lie elsewhere, as a file. */
export function modelFilesEntry(networks: NetworkPlaces): { name: string; text: string } {
  return { name: descriptionFile, text: `${JSON.stringify({ version: 1, networks }, undefined, 2)}\n` };
}

/** Whether the networks of the model in `folder` lie elsewhere. */
export function hasModelFiles(folder: string): boolean {
  return existsSync(join(folder, descriptionFile));
}

/**
 * Where the networks of the model in `folder` lie; nothing is said of whether they are there.
 *
 * @throws ModelInvalidError when the folder's description is damaged.
 */
export function networkPlaces(folder: string): NetworkPlaces {
  if (!hasModelFiles(folder)) {
    const places = components.map((component) => [component, join(folder, component)]);
    return Object.fromEntries(places) as NetworkPlaces;
  }
  try {
    return descriptionSchema.parse(JSON.parse(readFileSync(join(folder, descriptionFile), "utf8"))).networks;
  } catch (cause) {
    throw new ModelInvalidError(`The ${descriptionFile} of ${basename(folder)} is damaged; pull the model again.`, {
      cause,
    });
  }
}

/**
 * One network of the model in `folder`.
 *
 * @throws ModelInvalidError when it is missing or incomplete.
 * @throws WeightsInvalidError when a file is damaged.
 */
export function openNetwork(folder: string, component: Component): WeightSource {
  const path = networkPlaces(folder)[component];
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return WeightSource.openFile(path, component);
  if (hasModelFiles(folder) && !existsSync(path)) {
    throw new ModelInvalidError(`The model's file ${path} is gone; bring it back, or pull the model again.`);
  }
  return WeightSource.openFolder(path);
}
