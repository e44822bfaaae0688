/** The pictures of finished jobs that wait to be fetched: a folder for each job, readable by its owner only. */
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EaselError } from "../errors.ts";
import type { GenerationOutput } from "./engine.ts";

export class KeptPictures {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Saves the pictures and returns the rest of the output, as plain data for `read`. */
  async write(jobId: string, output: GenerationOutput): Promise<unknown> {
    // A job that was drawn again after a crash of the server may have left its pictures here.
    await this.remove(jobId);
    const unfinished = join(this.#folder, `${jobId}.unfinished`);
    await mkdir(unfinished, { recursive: true, mode: 0o700 });
    for (const [index, { data }] of output.images.entries()) {
      await writeFile(join(unfinished, String(index)), data, { mode: 0o600 });
    }
    await rename(unfinished, join(this.#folder, jobId));
    return { ...output, images: output.images.map((image) => ({ ...image, data: undefined })) };
  }

  /** The output as it was. Throws `not_found` when the pictures are gone. */
  async read(jobId: string, result: unknown): Promise<GenerationOutput> {
    const output = result as GenerationOutput;
    try {
      const images = output.images.map(async (image, index) => ({
        ...image,
        data: await readFile(join(this.#folder, jobId, String(index))),
      }));
      return { ...output, images: await Promise.all(images) };
    } catch (cause) {
      throw new EaselError("not_found", `The pictures of the job ${jobId} are gone.`, { cause });
    }
  }

  async remove(jobId: string): Promise<void> {
    for (const name of [jobId, `${jobId}.unfinished`]) {
      await rm(join(this.#folder, name), { recursive: true, force: true });
    }
  }
}
