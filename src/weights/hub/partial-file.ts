/** A file on its way: `NAME.partial` until its content has been proven, then `NAME`. */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { EaselError } from "../../errors.ts";
import { fileFault } from "./file-fault.ts";
import type { HubFile } from "./hub-client.ts";

export const partialSuffix = ".partial";
const readBytes = 1024 * 1024;

/** The expected content, as the listing has it. */
type Content = Pick<HubFile, "path" | "sizeBytes" | "hash">;

export class PartialFile implements AsyncDisposable {
  readonly #path: string;
  readonly #content: Content;
  readonly #handle: FileHandle;
  #hash: Hash;
  #bytes = 0;

  private constructor(path: string, content: Content, handle: FileHandle) {
    this.#path = path;
    this.#content = content;
    this.#handle = handle;
    this.#hash = startHash(content);
  }

  /** Opens what is there from an earlier attempt, or an empty file; `path` is the final one. Throws `io_failed`. */
  static async open(path: string, content: Content, signal: AbortSignal): Promise<PartialFile> {
    let handle: FileHandle | undefined;
    try {
      await mkdir(dirname(path), { recursive: true });
      // A link in this place would be nobody's honest work. (Windows has no such flag.)
      const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0);
      handle = await open(path + partialSuffix, flags, 0o644);
      const file = new PartialFile(path, content, handle);
      await file.#takeUp(signal);
      return file;
    } catch (error) {
      await handle?.close();
      signal.throwIfAborted();
      throw fileFault(path, error);
    }
  }

  /** Bytes that are here. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Throws `io_failed`, and `download_failed` beyond the listed size. */
  async append(chunk: Uint8Array): Promise<void> {
    const { sizeBytes, path } = this.#content;
    if (this.#bytes + chunk.length > sizeBytes) {
      throw new EaselError(
        "download_failed",
        `${path} is longer than the ${sizeBytes} bytes that its list of files says.`,
      );
    }
    try {
      for (let written = 0; written < chunk.length;) {
        const rest = chunk.length - written;
        const { bytesWritten } = await this.#handle.write(chunk, written, rest, this.#bytes + written);
        written += bytesWritten;
      }
    } catch (error) {
      throw fileFault(this.#path, error);
    }
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0).catch((error: unknown) => {
      throw fileFault(this.#path, error);
    });
    this.#hash = startHash(this.#content);
    this.#bytes = 0;
  }

  /** Gives the file its final name if its content is the expected one, and else tells so and leaves it. */
  async complete(): Promise<boolean> {
    if (this.#bytes !== this.#content.sizeBytes || this.#hash.copy().digest("hex") !== this.#content.hash.hex)
      return false;
    try {
      await this.#handle.sync();
      await rename(this.#path + partialSuffix, this.#path);
      return true;
    } catch (error) {
      throw fileFault(this.#path, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  /** Hashes what an earlier attempt left; more than the whole cannot be right, so it is dropped. */
  async #takeUp(signal: AbortSignal): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size > this.#content.sizeBytes) return await this.restart();
    const buffer = Buffer.alloc(Math.min(readBytes, size));
    while (this.#bytes < size) {
      signal.throwIfAborted();
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.#bytes);
      if (bytesRead === 0) return;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#bytes += bytesRead;
    }
  }
}

/** Whether the file is here under its final name, which it got only when its content was proven. */
export async function isPresent(path: string, sizeBytes: number): Promise<boolean> {
  const file = await stat(path).catch(() => undefined);
  return file !== undefined && file.isFile() && file.size === sizeBytes;
}

/** How many bytes of a file are here, whole or partial. */
export async function presentBytes(path: string, sizeBytes: number): Promise<number> {
  if (await isPresent(path, sizeBytes)) return sizeBytes;
  const partial = await stat(path + partialSuffix).catch(() => undefined);
  return partial && partial.size <= sizeBytes ? partial.size : 0;
}

/** git hashes a file behind a header with its size (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). */
function startHash({ hash, sizeBytes }: Content): Hash {
  return hash.algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${sizeBytes}\0`);
}
