/** The command line: its commands and options, and how errors become sentences and exit codes. */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { EaselError } from "../errors.ts";
import { exitCodes } from "./exit-codes.ts";

/**
 * Runs one command line (without `node` and the script) and returns its exit code. Errors are told on stderr in one
 * sentence; with EASEL_DEBUG set, with their stack.
 */
export async function run(args: readonly string[]): Promise<number> {
  // A reader that has seen enough (`easel models | head -1`) is no fault.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  let exitCode: number = exitCodes.success;
  try {
    await createProgram((code) => (exitCode = code)).parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    // Commander has already told its own errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage;
    process.stderr.write(`easel: ${describe(error)}\n`);
    return error instanceof EaselError && error.code === "invalid_request" ? exitCodes.usage : exitCodes.failure;
  }
}

function createProgram(setExitCode: (code: number) => void): Command {
  const program = new Command("easel")
    .description("Draw pictures from words, on your own machine.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .exitOverride()
    .showHelpAfterError("(easel --help shows how)")
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error:/, "easel:")) })
    .addHelpText(
      "after",
      `
Examples:
  $ easel generate "A white cat resting in Rome" --out cat.png
  $ easel serve --port 8080
  $ easel models
  $ easel pull FLUX.1-schnell
  $ easel doctor

easel COMMAND --help explains a command and gives more examples.`,
    );

  // Commands are loaded when they run: drawing one picture should not wait for a web server's code.
  withEngineOptions(program.command("generate"))
    .description("Draw a picture and save it as a PNG, JPEG or WebP file.")
    .argument("<prompt>", 'what to draw, in quotes: "a red boat on the sea"')
    .option("--size <WxH>", "width and height in pixels, multiples of 16 (default: the model's own size)")
    .option("--n <count>", "how many pictures; each has the next seed (default: 1)")
    .option("--seed <number>", "the same seed draws the same picture again (default: random)")
    .option("--steps <count>", "denoising steps (default: the model's own)")
    .option("--guidance <scale>", "how closely to follow the prompt (default: the model's own)")
    .option("--negative-prompt <text>", "what should not be in the picture; takes twice the time")
    .option("--true-cfg-scale <scale>", "weight of the negative prompt; above 1 it has an effect")
    .option("--max-sequence-length <tokens>", "tokens of the prompt to read (default: the model's own)")
    .option(
      "--step-cache <threshold>",
      "spare steps that differ from the last by less: 0 is off, 0.1 mild (default: 0)",
    )
    .option("--lora <name or file[:scale]>", "a LoRA to apply, once or several times (default scale: 1)", collect)
    .option("--quality <name>", "low takes half the model's own steps, high and hd 1.5 times (default: auto)")
    .option("--image <file>", "a picture to start from: PNG, JPEG or WebP")
    .option("--mask <file>", "a picture as large, whose transparent pixels are repainted")
    .option("--strength <share>", "how far to leave the picture, up to 1 (default: 0.6, with a mask 1)")
    .option("--upscale <factor>", "enlarge the finished picture 2 or 4 times")
    .option("--compression <percent>", "of JPEG and WebP: 0 smallest file, 100 best picture (default: 100)")
    .option("--no-embed-prompt", "leave the prompt out of what the file says about its making")
    .option("--out <file or folder>", "where to save (default: easel-SEED.png here)")
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      `
Files:
  --out cat.png        that file, replaced if it exists; with --n 3: cat-1.png, cat-2.png, cat-3.png
  --out cat.jpg        a JPEG file; .webp a WebP file
  --out pictures/      easel-SEED.png in that folder, which is created if need be; nothing is replaced
  Pictures appear under their names only when all are complete.

Examples:
  $ easel generate "A white cat resting in Rome" --out cat.png
  $ easel generate "a yellow car" --n 4 --seed 100 --out cars/
  $ easel generate "a red hat" --image cat.png --mask hat-mask.png --out cat-with-hat.png
  $ easel generate "a house by a lake" --model ./FLUX.1-dev --size 1024x768 --steps 28 --guidance 3.5

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with Ctrl-C.`,
    )
    .action(async (prompt: string, flags: object) => {
      const { generate } = await import("./commands/generate.ts");
      setExitCode(await generate(prompt, flags));
    });

  withEngineOptions(program.command("replay"))
    .description("Draw a picture again from what its file says, and tell whether it is identical.")
    .argument("<file>", "a PNG, JPEG or WebP file that Easel made")
    .option("--prompt <text>", "the prompt, where the file does not tell it")
    .option("--negative-prompt <text>", "the negative prompt, where the file does not tell it")
    .option("--image <file>", "the picture that it was made from, if there was one")
    .option("--mask <file>", "the mask, if there was one")
    .option("--lora <file>", "where a LoRA is, if there was one that is not installed", collect)
    .option("--out <file>", "save the new picture too")
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ easel replay cat.png
  $ easel replay cat-with-hat.png --image cat.png --mask hat-mask.png

Exit codes: 0 identical, 1 different or failed, 2 wrong usage, 130 interrupted with Ctrl-C.`,
    )
    .action(async (file: string, flags: object) => {
      const { replay } = await import("./commands/replay.ts");
      setExitCode(await replay(file, flags));
    });

  program
    .command("upscale")
    .description("Enlarge a picture two or four times.")
    .argument("<file>", "a PNG, JPEG or WebP file")
    .option("--scale <factor>", "how many times as long each side becomes: 2 or 4 (default: 2)")
    .option("--model <name or file>", "an upscaler: easel-upscale, lanczos3, one of $EASEL_HOME/upscalers, or a file")
    .option("--compression <percent>", "of JPEG and WebP: 0 smallest file, 100 best picture (default: 100)")
    .option("--out <file or folder>", "where to save (default: FILE-x2.png here)")
    .option("--json", "print the result as one JSON object")
    .option("--device <name>", "where to compute: auto, cpu, webgpu, cuda, coreml, dml (default: auto)")
    .option("--threads <count>", "CPU threads (default: all cores)")
    .addHelpText(
      "after",
      `
The upscaler that comes with Easel is quick. Networks of Real-ESRGAN take a hundred times as long: give a .safetensors or
.onnx file, or install it with easel pull FILE. docs/upscaling.md compares them.

Examples:
  $ easel upscale cat.png --scale 4 --out large-cat.png
  $ easel upscale photo.jpg --model ./RealESRGAN_x4plus.safetensors --scale 4

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with Ctrl-C.`,
    )
    .action(async (file: string, flags: object) => {
      const { upscale } = await import("./commands/upscale.ts");
      setExitCode(await upscale(file, flags));
    });

  withEngineOptions(program.command("serve"))
    .description("Serve the OpenAI-compatible HTTP API.")
    .option("--host <address>", "address to listen on (default: 127.0.0.1)")
    .option("--port <number>", "port to listen on; 0 takes a free one (default: 8080)")
    .option("--open-loopback", "let programs on this machine draw without an API key")
    .addHelpText(
      "after",
      `
The first start prints an API key, once. Data lives in $EASEL_HOME; every setting is in docs/configuration.md.

Examples:
  $ easel serve
  $ easel serve --host 0.0.0.0 --port 80
  $ EASEL_API_KEY=my-own-key easel serve`,
    )
    .action(async (flags: object) => {
      const { serve } = await import("./commands/serve.ts");
      setExitCode(await serve(flags));
    });

  addKeyCommands(program);

  program
    .command("models")
    .description("List the models that can be used, and those that can be installed.")
    .option("--json", "print the list as one JSON object")
    .action(async (flags: { json?: true }) => {
      const { models } = await import("./commands/models.ts");
      await models(flags);
    });

  program
    .command("pull")
    .description("Download a model's weights, or register a folder or files that have them.")
    .argument(
      "<model>",
      "FLUX.1-dev, FLUX.1-schnell, owner/repo of the Hugging Face Hub, a folder, a single file, an upscaler's or a LoRA's",
    )
    .option("--name <name>", "what to call a folder's or a file's model (default: its own name)")
    .option("--vae <file>", "the autoencoder for a single file, where it is not found by itself")
    .option("--clip <file>", "the CLIP text encoder for a single file")
    .option("--t5 <file>", "the T5 text encoder for a single file")
    .option("--tokenizers <folder>", "a model folder with tokenizer/ and tokenizer_2/, for a single file")
    .option("--revision <name>", "branch, tag or commit (default: main)")
    .option(
      "--precision <name>",
      "convert now, not at the first picture: int8, int4, fp16 for a GPU, or fp32 for fp8 and GGUF files",
    )
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      `
An interrupted download goes on where it stopped when the same command runs again. A folder or file is registered where
it lies, and a model that is whole in the Hugging Face cache is used from there: nothing is copied.

A single file is a transformer as Black Forest Labs and ComfyUI's users have it, .safetensors (fp8 too) or .gguf, or a
checkpoint with everything in it. The autoencoder and the text encoders are looked for beside it, in ComfyUI's folders
around it, and in installed models.

FLUX.1-dev is a gated download: accept its licence at https://huggingface.co/black-forest-labs/FLUX.1-dev, create a token
at https://huggingface.co/settings/tokens and export HF_TOKEN=hf_... first. FLUX.1-schnell may ask for the same.

Examples:
  $ easel pull FLUX.1-schnell
  $ HF_TOKEN=hf_... easel pull FLUX.1-dev
  $ easel pull FLUX.1-schnell --precision int8
  $ easel pull someone/their-flux --revision v2
  $ easel pull ./FLUX.1-dev
  $ easel pull ComfyUI/models/unet/flux1-dev-Q4_K_S.gguf --name dev-q4
  $ easel pull flux1-dev.safetensors --vae ae.safetensors --clip clip_l.safetensors --t5 t5xxl_fp16.safetensors
  $ easel pull ./RealESRGAN_x4plus.safetensors
  $ easel pull ./watercolour-lora.safetensors

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with Ctrl-C.`,
    )
    .action(async (model: string, flags: object) => {
      const { pull } = await import("./commands/pull.ts");
      setExitCode(await pull(model, flags));
    });

  program
    .command("rm")
    .description("Remove an installed model, or forget a registered folder, whose files stay.")
    .argument("<model>", "a name from `easel models`")
    .action(async (model: string) => {
      const { rm } = await import("./commands/rm.ts");
      await rm(model);
    });

  program
    .command("doctor")
    .description("Look at this machine and at what is installed: what works, what would run well, what is broken.")
    .option("--json", "print what was found as one JSON object")
    .addHelpText(
      "after",
      `
It changes nothing, and takes a few seconds; where a driver of a GPU hangs, half a minute.

Exit codes: 0 all that is needed works, 1 something is broken; a sentence on stderr says what to do.`,
    )
    .action(async (flags: { json?: true }) => {
      const { doctor } = await import("./commands/doctor.ts");
      setExitCode(await doctor(flags));
    });

  return program;
}

function addKeyCommands(program: Command): void {
  const keys = program.command("keys").description("Say who may use the server, and how much.");

  keys
    .command("create")
    .description("Create an API key and print it, once.")
    .argument("<name>", "whose it is, or what for")
    .option("--scopes <list>", "images, models, usage, metrics, admin (default: images,models,usage)")
    .option("--models <list>", "the only models it may use (default: all)")
    .option("--expires <when>", "the day it ends, such as 2030-01-31, or in how many days, such as 30d")
    .option("--requests-per-minute <count>", "how often it may ask for pictures")
    .option("--concurrent-pictures <count>", "how many pictures it may have waiting or being drawn at once")
    .option("--budget <amount>", "megapixel-steps a calendar day or month, such as 500/day or 20000/month")
    .option("--priority <name>", "its share of the queue: low, normal, high (default: normal)")
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      `
A megapixel-step is one denoising step of a picture of a million pixels: 1024x1024 in 28 steps costs 29.4.

Examples:
  $ easel keys create alice
  $ easel keys create web --models easel-sketch --requests-per-minute 60 --budget 500/day
  $ easel keys create prometheus --scopes metrics --json`,
    )
    .action(async (name: string, flags: object) => {
      const { createKey } = await import("./commands/keys.ts");
      await createKey(name, flags);
    });

  keys
    .command("list")
    .description("List the keys with their rights; the keys themselves cannot be shown.")
    .option("--json", "print the list as one JSON object")
    .action(async (flags: { json?: true }) => {
      const { listKeys } = await import("./commands/keys.ts");
      await listKeys(flags);
    });

  keys
    .command("revoke")
    .description("End the validity of a key, at once.")
    .argument("<id or name>", "from `easel keys list`; a name stands for all valid keys of that name")
    .option("--json", "print the result as one JSON object")
    .action(async (idOrName: string, flags: { json?: true }) => {
      const { revokeKey } = await import("./commands/keys.ts");
      await revokeKey(idOrName, flags);
    });

  program
    .command("usage")
    .description("Export what was drawn by day, key and model, as CSV.")
    .option("--from <day>", "first day, such as 2030-01-31 (UTC)")
    .option("--to <day>", "last day")
    .option("--key <id>", "only this key's")
    .option("--json", "print one JSON object instead")
    .action(async (flags: object) => {
      const { usage } = await import("./commands/keys.ts");
      await usage(flags);
    });
}

function withEngineOptions(command: Command): Command {
  return command
    .option("--model <name or path>", "a name from `easel models`, a folder, or a .safetensors or .gguf file")
    .option("--device <name>", "where to compute: auto, cpu, webgpu, cuda, coreml, dml (default: auto)")
    .option(
      "--precision <name>",
      "number format: auto, fp32, fp16 for half of the memory on GPUs, int8 for a quarter on CPUs, int4 for less still (default: auto)",
    )
    .option("--threads <count>", "CPU threads (default: all cores)");
}

/** For options that may be given several times. */
function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value];
}

function describe(error: unknown): string {
  if (process.env["EASEL_DEBUG"] && error instanceof Error) return withCauses(error);
  if (error instanceof EaselError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  return `unexpected fault: ${message.split("\n", 1)[0]} (EASEL_DEBUG=1 shows more)`;
}

function withCauses(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by: ${withCauses(error.cause)}` : "";
  return `${error.stack}${cause}`;
}

function version(): string {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  );
  return manifest.version;
}
