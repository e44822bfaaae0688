/**
 * The pictures that jobs in hand start from: a folder for each job, readable by its owner only, with the raw pixels of the
 * picture and of the mask, exactly as they will be drawn from. All of them together stay within a limit.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EaselError, InvalidRequestError } from "../errors.ts";
import type { ImageCondition } from "../pipelines/image-conditioning.ts";
import type { PictureSize } from "./generation-request.ts";

export interface KeptInputsOptions {
  folder: string;
  /** Of the pixels of all jobs in hand. */
  limitBytes: number;
}

/** What must be known of a condition to read its pixels again; plain data. */
export interface ConditionOutline extends PictureSize {
  strength: number | undefined;
  masked: boolean;
}

/** `condition` without its pixels. Its mask is as large as its picture. */
export function outlineOf({ image: { width, height }, mask, strength }: ImageCondition): ConditionOutline {
  return { width, height, strength, masked: mask !== undefined };
}

export class KeptInputs {
  readonly #options: KeptInputsOptions;
  /** Job id → bytes. */
  readonly #sizes = new Map<string, number>();

  constructor(options: KeptInputsOptions) {
    this.#options = options;
  }

  /**
   * Keeps the pixels of a job's condition. Throws `queue_full` when there is no room until other jobs end, `invalid_request`
   * when there never will be, and `io_failed`.
   */
  async write(jobId: string, { image, mask }: ImageCondition): Promise<void> {
    const { folder } = this.#options;
    this.#reserve(jobId, image.pixels.length + (mask?.pixels.length ?? 0));
    const unfinished = join(folder, `${jobId}.unfinished`);
    try {
      await mkdir(unfinished, { recursive: true, mode: 0o700 });
      await writeFile(join(unfinished, "image"), image.pixels, { mode: 0o600 });
      if (mask) await writeFile(join(unfinished, "mask"), mask.pixels, { mode: 0o600 });
      await rename(unfinished, join(folder, jobId));
    } catch (cause) {
      this.#sizes.delete(jobId);
      await rm(unfinished, { recursive: true, force: true }).catch(() => {});
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new EaselError("io_failed", `The given picture cannot be kept in ${folder}: ${reason}.`, { cause });
    }
  }

  /** The condition as it was. Throws `lost` when its files are gone or damaged. */
  async read(jobId: string, { width, height, strength, masked }: ConditionOutline): Promise<ImageCondition> {
    const pixels = async (name: string, sizeBytes: number) => {
      const data = await readFile(join(this.#options.folder, jobId, name)).catch(() => undefined);
      if (data?.length === sizeBytes) return data;
      throw new EaselError("lost", `The ${name} that the job was given is gone or damaged; order it again.`);
    };
    const image = { width, height, pixels: await pixels("image", width * height * 3) };
    const mask = masked ? { width, height, pixels: await pixels("mask", width * height) } : undefined;
    this.#sizes.set(jobId, image.pixels.length + (mask?.pixels.length ?? 0));
    return { image, mask, strength };
  }

  async remove(jobId: string): Promise<void> {
    if (!this.#sizes.delete(jobId)) return;
    await rm(join(this.#options.folder, jobId), { recursive: true, force: true });
  }

  /** Removes what no job needs: a server that was killed may have left some. Only while no job is being accepted. */
  async removeOthers(): Promise<void> {
    const { folder } = this.#options;
    for (const name of await readdir(folder).catch(() => [])) {
      if (!this.#sizes.has(name)) await rm(join(folder, name), { recursive: true, force: true });
    }
  }

  #reserve(jobId: string, sizeBytes: number): void {
    const { limitBytes } = this.#options;
    if (sizeBytes > limitBytes) {
      throw new InvalidRequestError(
        "image",
        `image would take ${sizeBytes} bytes while its job waits, and this server keeps at most ${limitBytes}; ` +
          "ask for a smaller size, or wait for the answer instead.",
      );
    }
    let taken = 0;
    for (const each of this.#sizes.values()) taken += each;
    if (taken + sizeBytes > limitBytes) {
      throw new EaselError(
        "queue_full",
        "Too many jobs that start from pictures are waiting; try again when some of them are drawn.",
      );
    }
    this.#sizes.set(jobId, sizeBytes);
  }
}
