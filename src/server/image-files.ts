/**
 * Pictures behind links that expire: files in the data directory, served only to who has a link that this server signed.
 * A request's path is compared with the signature before anything is looked up, and a name can be nothing but hexadecimal.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { readdir, readFile, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EaselError } from "../errors.ts";
import type { ImageFormat } from "../images/metadata.ts";

export interface ImageFilesOptions {
  /** The data directory. */
  home: string;
  /** How long a link and its file last. */
  linkSeconds: number;
}

/** What a link says about its file. */
export interface SignedName {
  name: string;
  /** Unix time, in seconds. */
  expires: number;
  signature: string;
}

const cleanUpIntervalMs = 60_000;
const namePattern = /^[0-9a-f]{32}\.(png|jpeg|webp)$/;

export class ImageFiles {
  readonly #folder: string;
  readonly #linkSeconds: number;
  readonly #secret: Buffer;
  readonly #cleaning: NodeJS.Timeout;

  /** Makes the folder and the secret where they are missing. Throws `io_failed`. */
  constructor({ home, linkSeconds }: ImageFilesOptions) {
    this.#folder = join(home, "images");
    this.#linkSeconds = linkSeconds;
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#secret = readOrCreateSecret(join(home, "link-secret"));
    } catch (cause) {
      throw unusable(this.#folder, cause);
    }
    void this.cleanUp();
    this.#cleaning = setInterval(() => void this.cleanUp(), cleanUpIntervalMs).unref();
  }

  /** Keeps a picture for as long as its link lasts; returns what the link must say. */
  async store(data: Uint8Array, format: ImageFormat): Promise<SignedName> {
    const name = `${randomBytes(16).toString("hex")}.${format}`;
    const expires = Math.floor(Date.now() / 1000) + this.#linkSeconds;
    await writeFile(join(this.#folder, name), data, { mode: 0o600, flag: "wx" }).catch((cause: unknown) => {
      throw unusable(this.#folder, cause);
    });
    return { name, expires, signature: this.#sign(name, expires).toString("base64url") };
  }

  /** The picture of a link. Throws `not_found` for a link that is forged, altered or expired. */
  async read({ name, expires, signature }: SignedName): Promise<{ data: Buffer; format: ImageFormat }> {
    const gone = new EaselError("not_found", "This link has expired, or was never valid.");
    const format = namePattern.exec(name)?.[1];
    const given = Buffer.from(signature, "base64url");
    const expected = this.#sign(name, expires);
    if (format === undefined || given.length !== expected.length || !timingSafeEqual(given, expected)) throw gone;
    if (expires * 1000 < Date.now()) throw gone;
    const data = await readFile(join(this.#folder, name)).catch(() => undefined);
    if (data === undefined) throw gone;
    return { data, format: format as ImageFormat };
  }

  /** Deletes the files whose links have expired. */
  async cleanUp(): Promise<void> {
    const oldest = Date.now() - this.#linkSeconds * 1000;
    for (const name of await readdir(this.#folder).catch(() => [])) {
      if (!namePattern.test(name)) continue;
      const path = join(this.#folder, name);
      const file = await stat(path).catch(() => undefined);
      if (file !== undefined && file.mtimeMs < oldest) await unlink(path).catch(() => {});
    }
  }

  close(): void {
    clearInterval(this.#cleaning);
  }

  #sign(name: string, expires: number): Buffer {
    return createHmac("sha256", this.#secret).update(`${name}\n${expires}`).digest();
  }
}

function unusable(folder: string, cause: unknown): EaselError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EaselError("io_failed", `Pictures cannot be kept in ${folder}: ${reason}.`, { cause });
}

/** Links outlive a restart, so the secret does too. */
function readOrCreateSecret(path: string): Buffer {
  try {
    writeFileSync(path, randomBytes(32), { mode: 0o600, flag: "wx" });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
  const secret = readFileSync(path);
  if (secret.length < 32) throw new Error(`${path} is too short; delete it to get a new one`);
  return secret;
}
