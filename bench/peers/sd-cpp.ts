/** stable-diffusion.cpp's command line, drawing with a FLUX transformer of random weights that is written for it. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PeakMemory } from "../measure.ts";
import type { FluxWork, Peer } from "./peer.ts";
import { autoencoderTensors, clipTensors, transformerTensors } from "./flux-tensors.ts";
import { type GgufType, writeRandomGguf } from "./random-gguf.ts";

/** The first step of a run is not counted: it waits for the weights. */
const stepsPerRun = 4;

/** The program on the PATH, by its present name or its former one; undefined when neither is there. */
export function findSdCli(): string | undefined {
  return ["sd-cli", "sd"].find((command) => {
    const { stdout } = spawnSync(command, ["--help"], { encoding: "utf8" });
    return stdout?.includes("--diffusion-model") === true; // other programs are called sd, too
  });
}

/**
 * Writes what `sdCli` needs into `scratch` (1.7 GB with 2 double and 4 single blocks in q8_0) and runs it once for each round.
 * T5 is left out, for which stable-diffusion.cpp puts 256 text tokens of zeros: a step costs the same.
 */
export function sdCppPeer(sdCli: string, type: GgufType, work: FluxWork, scratch: string): Peer {
  if (work.textTokens !== 256)
    throw new Error("stable-diffusion.cpp always has 256 text tokens: leave --text-tokens out");
  const [transformer, clip, autoencoder] = [`transformer-${type}.gguf`, "clip.gguf", "autoencoder.gguf"].map((file) =>
    join(scratch, file),
  ) as [string, string, string];
  writeOnce(transformer, () => transformerTensors(work.doubleBlocks, work.singleBlocks, type));
  writeOnce(clip, clipTensors);
  writeOnce(autoencoder, autoencoderTensors);
  const options = {
    "--diffusion-model": transformer,
    "--clip_l": clip,
    "--vae": autoencoder,
    "--prompt": "A white cat resting in Rome",
    "--width": work.width,
    "--height": work.height,
    "--steps": stepsPerRun,
    "--sampling-method": "euler",
    "--cfg-scale": 1,
    "--seed": 0,
    "--threads": work.threads,
    "--output": join(scratch, "sd.png"),
  };
  const args = Object.entries(options).flatMap(([name, value]) => [name, String(value)]);
  return {
    name: `${sdCli} ${type}`,
    async run() {
      const { output, peakMb } = await runSd(sdCli, args);
      const [, ...steps] = stepSeconds(output);
      if (steps.length !== stepsPerRun - 1)
        throw new Error(`${sdCli} did not report the seconds of its steps:\n${output.slice(-2000)}`);
      return { steps, peakMb };
    },
    stop() {},
  };
}

function writeOnce(path: string, tensors: () => ReturnType<typeof clipTensors>): void {
  if (!existsSync(path)) writeRandomGguf(path, "flux", tensors());
}

/** What it says after each step, with its time since the step before: "| 2/4 - 7.94s/it" or, below a second, "1.25it/s". */
function stepSeconds(output: string): number[] {
  return [...output.matchAll(/\| (\d+)\/(\d+) - ([\d.]+)(s\/it|it\/s)/g)]
    .filter(([, , total]) => Number(total) === stepsPerRun)
    .slice(0, stepsPerRun)
    .map(([, , , value, unit]) => (unit === "s/it" ? Number(value) : 1 / Number(value)));
}

async function runSd(sdCli: string, args: readonly string[]): Promise<{ output: string; peakMb: number }> {
  const child = spawn(sdCli, args, { stdio: ["ignore", "pipe", "pipe"] });
  const memory = new PeakMemory(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data));
  const code = await new Promise<number | null>((resolve, reject) => child.on("close", resolve).on("error", reject));
  const peakMb = memory.stop();
  if (code !== 0) throw new Error(`${sdCli} ${args.join(" ")} failed:\n${output.slice(-2000)}`);
  return { output, peakMb };
}
