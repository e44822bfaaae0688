/**
 * Forms with files, as OpenAI's clients send them, brought into the shape of a JSON body: numbers and booleans, which a form
 * has as texts, become what they say; files become `UploadedFile`. The route's schema then validates both kinds alike.
 */
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import multipart, { type Multipart } from "@fastify/multipart";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { EaselError, InvalidRequestError } from "../errors.ts";

/** A file of a form, in memory. */
export class UploadedFile {
  readonly data: Buffer;

  constructor(data: Buffer) {
    this.data = data;
  }
}

/** A schema for a file. */
export function uploadedFile() {
  return z
    .instanceof(UploadedFile, {
      error: ({ input }) => (input === undefined ? "is required" : "must be a file, not a text"),
    })
    .meta({ type: "string", format: "binary" });
}

export const fieldNamePattern = /^[A-Za-z0-9_]{1,64}(\[\])?$/;

/** What a form has as text and means as a number, or as true or false. */
const numbers = new Set([
  "n",
  "seed",
  "steps",
  "guidance_scale",
  "true_cfg_scale",
  "max_sequence_length",
  "step_cache",
  "strength",
  "upscale",
  "scale",
  "output_compression",
  "partial_images",
]);
const booleans = new Set(["stream", "embed_prompt"]);
/** What may be given several times, and is a list then. */
const lists = new Set(["lora"]);

/** The longest prompt in UTF-8. */
const maxFieldBytes = 4 * 32_000;

/** How long the rest of a refused form is waited for. */
const patienceMs = 10_000;

/** Lets routes of `app` take forms. Each file may have `fileSizeBytes`. */
export function acceptForms(app: FastifyInstance, { fileSizeBytes }: { fileSizeBytes: number }): void {
  void app.register(multipart, {
    limits: {
      fileSize: fileSizeBytes,
      files: 4,
      fields: 64,
      parts: 68,
      fieldSize: maxFieldBytes,
      fieldNameSize: 100,
      headerPairs: 20,
    },
  });
}

/**
 * A hook that reads the form of a request into its body; `files` are the names under which it may have files. Throws
 * `invalid_request` naming the field at fault, and `payload_too_large`.
 */
export function readForm(...files: string[]): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    if (!request.isMultipart()) {
      throw new EaselError("invalid_request", "Send a form with the header Content-Type: multipart/form-data.");
    }
    const fields = new Map<string, unknown>();
    try {
      for await (const part of request.parts()) {
        const name = fieldName(part);
        const earlier = fields.get(name);
        if (earlier !== undefined && !lists.has(name)) throw repeated(name, part);
        const value = part.type === "file" ? await readFile(part, name, files) : readText(part, name);
        fields.set(name, earlier === undefined ? value : [earlier, value].flat());
      }
    } catch (error) {
      await readToEnd(request.raw);
      throw explain(error);
    }
    request.body = Object.fromEntries(fields);
  };
}

/** A hook that refuses forms on a route that takes none, with `message` as the reason. */
export function refuseForm(message: string): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    if (!request.isMultipart()) return;
    await readToEnd(request.raw);
    throw new EaselError("invalid_request", message);
  };
}

/** `image[]` is how clients send a list; a list of one is that one. */
function fieldName({ fieldname = "" }: Multipart): string {
  if (!fieldNamePattern.test(fieldname)) {
    throw new EaselError("invalid_request", "The form has a field without a proper name.");
  }
  return fieldname.replace("[]", "");
}

function repeated(name: string, { type }: Multipart): EaselError {
  return new InvalidRequestError(
    name,
    type === "file" && name === "image"
      ? "image must be one picture: several cannot be combined."
      : `${name} must be given once, not several times.`,
  );
}

async function readFile(
  part: Extract<Multipart, { type: "file" }>,
  name: string,
  files: readonly string[],
): Promise<UploadedFile> {
  if (!files.includes(name)) {
    throw new InvalidRequestError(name, `${name} must not be a file; the files here are ${files.join(" and ")}.`);
  }
  return new UploadedFile(await part.toBuffer());
}

function readText(part: Extract<Multipart, { type: "field" }>, name: string): unknown {
  if (part.valueTruncated) throw new InvalidRequestError(name, `${name} is too long.`);
  const text = String(part.value);
  if (numbers.has(name) && /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i.test(text)) return Number(text);
  if (booleans.has(name) && /^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
  return text;
}

/**
 * Takes in what the client is still sending, for a while: many clients read no answer before they have sent all, and take a
 * connection that is closed under them for a fault that is worth another try.
 */
async function readToEnd(body: Readable): Promise<void> {
  if (body.readableEnded || body.destroyed) return;
  // From the parser, which waits for its parts to be read and holds the rest back.
  body.unpipe();
  body.resume();
  await finished(body, { signal: AbortSignal.timeout(patienceMs) }).catch(() => {});
}

function explain(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "FST_REQ_FILE_TOO_LARGE":
      return new EaselError("payload_too_large", "A file of the form is larger than this server accepts.");
    case "FST_PARTS_LIMIT":
    case "FST_FILES_LIMIT":
    case "FST_FIELDS_LIMIT":
      return new EaselError("payload_too_large", "The form has too many fields.");
    default:
      // What busboy says of a malformed form is no fault of ours.
      return error instanceof EaselError
        ? error
        : new EaselError("invalid_request", "The form is malformed or ended too soon.", { cause: error });
  }
}
