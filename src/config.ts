/**
 * The configuration: every setting, its environment variable, its default and its limits.
 *
 * Only the command line calls `loadConfig`; everything below it takes options. `docs/configuration.md` lists the same
 * settings, and a test keeps the two in step.
 */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { EaselError } from "./errors.ts";
import { deviceNames } from "./onnx/devices.ts";
import { precisionWishes } from "./pipelines/precision.ts";

function wholeNumber(min: number, max: number) {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.coerce.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

/** Pixels; pictures are made of 16-pixel cells. */
function side() {
  const error = "must be a multiple of 16 from 16 to 8192";
  return z.coerce.number({ error }).int({ error }).min(16, { error }).max(8192, { error }).multipleOf(16, { error });
}

function oneOf<const T extends readonly string[]>(values: T) {
  return z.enum(values, { error: `must be ${values.join(", ")}` });
}

/** Goes into a header; never repeated in a message. */
function secret() {
  return z.string().regex(/^[\x21-\x7e]+$/, { error: "must be printable ASCII without spaces" });
}

function isOrigin(text: string): boolean {
  return text === "*" || (URL.canParse(text) && new URL(text).origin === text);
}

function setting<T extends z.ZodType>(env: string, description: string, schema: T): T {
  return schema.meta({ env, description });
}

/** The schema of the configuration; each field's metadata names its environment variable. */
export const configSchema = z.object({
  home: setting("EASEL_HOME", "Folder of the database and of installed models.", z.string().min(1)),
  apiKey: setting(
    "EASEL_API_KEY",
    "The API key to store at the first start, instead of a generated one.",
    secret().optional(),
  ),
  host: setting("EASEL_HOST", "Address to listen on.", z.string().min(1).default("127.0.0.1")),
  port: setting("EASEL_PORT", "Port to listen on; 0 takes a free one.", wholeNumber(0, 65535).default(8080)),
  model: setting("EASEL_MODEL", "The model for requests that name none.", z.string().min(1).default("easel-sketch")),
  device: setting(
    "EASEL_DEVICE",
    "Where networks run: `auto`, `cpu`, `webgpu`, `cuda`, `coreml`, `dml`, see [devices.md](devices.md).",
    oneOf(deviceNames).default("auto"),
  ),
  precision: setting(
    "EASEL_PRECISION",
    "Number format of networks: `fp32`; on GPUs `fp16`, half the memory; on CPUs `int8`, a quarter; `int4`, less than a sixth, less exact; `auto`: fp32 for small models, and what fits.",
    oneOf(precisionWishes).default("auto"),
  ),
  threads: setting(
    "EASEL_THREADS",
    "CPU threads for networks; all cores when unset or 0.",
    wholeNumber(0, 1024).optional(),
  ),
  memoryLimitBytes: setting(
    "EASEL_MEMORY_LIMIT_BYTES",
    "What the process that draws may take; networks then take turns sooner. What the system lets it when unset.",
    wholeNumber(2 ** 28, 2 ** 50).optional(),
  ),
  queueBound: setting(
    "EASEL_QUEUE_BOUND",
    "Generations that may wait; one more is refused with `queue_full`.",
    wholeNumber(0, 10_000).default(64),
  ),
  queueBoundPerKey: setting(
    "EASEL_QUEUE_BOUND_PER_KEY",
    "Of these, how many of one API key, so that nobody fills the queue alone.",
    wholeNumber(0, 10_000).default(16),
  ),
  disconnectGraceSeconds: setting(
    "EASEL_DISCONNECT_GRACE_SECONDS",
    "How long a picture whose client left waits for the same `Idempotency-Key`.",
    wholeNumber(0, 3600).default(30),
  ),
  shutdownSeconds: setting(
    "EASEL_SHUTDOWN_SECONDS",
    "How long pictures in progress may still take when the server is told to stop.",
    wholeNumber(0, 86_400).default(10),
  ),
  jobRetentionHours: setting(
    "EASEL_JOB_RETENTION_HOURS",
    "How long a finished job and its pictures can be fetched.",
    wholeNumber(1, 8760).default(24),
  ),
  jobInputLimitBytes: setting(
    "EASEL_JOB_INPUT_LIMIT_BYTES",
    "What the pictures that unfinished jobs start from may take together, on the disk and in memory.",
    wholeNumber(0, 2 ** 40).default(2 ** 30),
  ),
  databaseUrl: setting(
    "EASEL_DATABASE_URL",
    "`postgres://USER:PASSWORD@HOST/NAME` keeps the records in PostgreSQL instead of `easel.db`.",
    z
      .string()
      .regex(/^postgres(ql)?:\/\//, { error: "must be a postgres:// address" })
      .optional(),
  ),
  openLoopback: setting(
    "EASEL_OPEN_LOOPBACK",
    "`1` lets programs on this machine draw without an API key.",
    z.stringbool({ error: "must be 1 or 0" }).default(false),
  ),
  moderationWords: setting(
    "EASEL_MODERATION_WORDS",
    "File of words and phrases, one a line; a prompt with one of them is refused.",
    z.string().min(1).optional(),
  ),
  moderationUrl: setting(
    "EASEL_MODERATION_URL",
    "An OpenAI-compatible moderation endpoint to ask about each prompt, such as `https://HOST/v1/moderations`.",
    z.url({ protocol: /^https?$/, error: "must be an http or https address" }).optional(),
  ),
  moderationKey: setting("EASEL_MODERATION_KEY", "The API key for that endpoint.", secret().optional()),
  moderationModel: setting("EASEL_MODERATION_MODEL", "The model to ask there.", z.string().min(1).optional()),
  webhookAllowPrivate: setting(
    "EASEL_WEBHOOK_ALLOW_PRIVATE",
    "`1` lets webhooks reach private and loopback addresses.",
    z.stringbool({ error: "must be 1 or 0" }).default(false),
  ),
  bodyLimitBytes: setting(
    "EASEL_BODY_LIMIT_BYTES",
    "Largest accepted request body.",
    wholeNumber(1024, 2 ** 30).default(1024 * 1024),
  ),
  maxImages: setting("EASEL_MAX_IMAGES", "Largest `n` of a request.", wholeNumber(1, 100).default(10)),
  minSide: setting("EASEL_MIN_SIDE", "Smallest width or height, in pixels.", side().default(16)),
  maxSide: setting("EASEL_MAX_SIDE", "Largest width or height, in pixels.", side().default(2048)),
  maxUpscaledSide: setting(
    "EASEL_MAX_UPSCALED_SIDE",
    "Largest width or height of an enlarged picture, in pixels.",
    wholeNumber(16, 16_384).default(4096),
  ),
  uploadLimitBytes: setting(
    "EASEL_UPLOAD_LIMIT_BYTES",
    "Largest accepted picture file.",
    wholeNumber(1024, 2 ** 30).default(20 * 1024 * 1024),
  ),
  maxUploadPixels: setting(
    "EASEL_MAX_UPLOAD_PIXELS",
    "Largest accepted picture, in pixels (width × height).",
    wholeNumber(256, 268_435_456).default(40_000_000),
  ),
  embedPrompt: setting(
    "EASEL_EMBED_PROMPT",
    "`0` leaves prompts out of what pictures tell about their making.",
    z.stringbool({ error: "must be 1 or 0" }).default(true),
  ),
  linkSeconds: setting(
    "EASEL_LINK_SECONDS",
    "How long links to pictures (`response_format` `url`) and the files behind them last.",
    wholeNumber(1, 31_536_000).default(3600),
  ),
  publicUrl: setting(
    "EASEL_PUBLIC_URL",
    "Where clients reach this server, for links to pictures; what the request came to when unset.",
    z.url({ protocol: /^https?$/, error: "must be an http or https address" }).optional(),
  ),
  corsOrigins: setting(
    "EASEL_CORS_ORIGINS",
    "Origins of web pages that may use the API, separated by commas, or `*`; none when unset.",
    z
      .string()
      .default("")
      .transform((list) => list.split(",").flatMap((origin) => origin.trim() || []))
      .refine((origins) => origins.every(isOrigin), {
        error: "must be addresses such as https://example.org, separated by commas, or *",
      }),
  ),
  hubEndpoint: setting(
    "HF_ENDPOINT",
    "Address of the Hugging Face Hub or of a mirror.",
    z.url({ protocol: /^https?$/, error: "must be an http or https address" }).default("https://huggingface.co"),
  ),
  hubToken: setting("HF_TOKEN", "Access token for gated and private models.", secret().optional()),
  hubTokenPath: setting("HF_TOKEN_PATH", "File with the token, for when `HF_TOKEN` is unset.", z.string().min(1)),
  hubHome: setting("HF_HOME", "Folder of Hugging Face's own programs.", z.string().min(1)),
  hubCache: setting("HF_HUB_CACHE", "Hugging Face's cache of models, which is used as it is.", z.string().min(1)),
  hubOffline: setting(
    "HF_HUB_OFFLINE",
    "`1` forbids `easel pull` to use the network.",
    z.stringbool({ error: "must be 1 or 0" }).default(false),
  ),
  hubTimeoutSeconds: setting(
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "Seconds without a byte after which a download's connection is given up and tried again.",
    wholeNumber(1, 3600).default(30),
  ),
  logLevel: setting(
    "EASEL_LOG_LEVEL",
    "How much the server logs, as JSON lines on stderr.",
    oneOf(["silent", "error", "warn", "info", "debug"]).default("info"),
  ),
  debug: setting(
    "EASEL_DEBUG",
    "`1` shows stack traces and the native libraries' own messages.",
    z.stringbool({ error: "must be 1 or 0" }).default(false),
  ),
});

/** What must end up neither on a screen nor in a log. */
const secretSettings: ReadonlySet<string> = new Set(["apiKey", "hubToken", "databaseUrl", "moderationKey"]);

export type Config = z.infer<typeof configSchema>;
/** Values as they were typed; the schema converts them. */
type Overrides = { [Name in keyof Config]?: unknown };
type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The configuration from environment variables, with `overrides` (command-line flags) taking precedence.
 * An empty variable counts as unset. Throws `invalid_request` naming the variable whose value cannot be used.
 */
export function loadConfig(env: Environment, overrides: Overrides = {}): Config {
  const values: Record<string, unknown> = { home: defaultHome(env), hubHome: defaultHubHome(env) };
  for (const [name, variable] of environmentVariables()) {
    if (env[variable]) values[name] = env[variable];
  }
  values["hubCache"] ??= join(String(values["hubHome"]), "hub");
  values["hubTokenPath"] ??= join(String(values["hubHome"]), "token");
  for (const [name, value] of Object.entries(overrides)) {
    if (value !== undefined) values[name] = value;
  }

  const parsed = configSchema.safeParse(values);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const name = String(issue?.path[0]);
    const source = Object.hasOwn(overrides, name) ? `--${name}` : (environmentVariables().get(name) ?? name);
    const instead = secretSettings.has(name) ? "" : `, not "${String(values[name])}"`;
    throw new EaselError("invalid_request", `${source} ${issue?.message}${instead}.`, { param: source });
  }
  const config = parsed.data;
  if (config.minSide > config.maxSide) {
    throw new EaselError("invalid_request", "EASEL_MIN_SIDE must not be larger than EASEL_MAX_SIDE.");
  }
  return { ...config, home: resolve(config.home), hubCache: resolve(config.hubCache) };
}

/** Setting name → environment variable. */
export function environmentVariables(): Map<string, string> {
  return new Map(
    Object.entries(configSchema.shape).map(([name, schema]) => [name, String(schema.meta()?.["env"] ?? name)]),
  );
}

function defaultHome(env: Environment): string {
  return join(env["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "easel");
}

function defaultHubHome(env: Environment): string {
  return join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "huggingface");
}
