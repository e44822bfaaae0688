/** A step of FLUX's transformer in Easel and in other programs on the same machine, in turn, with the same random work. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { FluxStepFigures } from "./flux-step.ts";
import { type Figure, figure } from "./measure.ts";
import { diffusersPeer, type TorchKind } from "./peers/diffusers.ts";
import type { FluxWork, Peer } from "./peers/peer.ts";
import type { GgufType } from "./peers/random-gguf.ts";
import { sdCppPeer } from "./peers/sd-cpp.ts";

export interface FluxPeersOptions extends FluxWork {
  rounds: number;
  /** A Python with torch and diffusers; undefined leaves diffusers out. */
  python: string | undefined;
  torchKinds: readonly TorchKind[];
  /** Builds of stable-diffusion.cpp. */
  sdClis: readonly string[];
  ggufTypes: readonly GgufType[];
}

type Run = Awaited<ReturnType<Peer["run"]>>;

/**
 * Each peer in turn with Easel (int8), round by round: seconds a step, memory, and the peer's time over Easel's in the same
 * round. One peer at a time is in memory; Easel runs in a process of its own each round.
 */
export async function benchFluxPeers(options: FluxPeersOptions): Promise<Figure[]> {
  const { python, torchKinds, sdClis, ggufTypes, rounds, ...work } = options;
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    const own: Run[] = [];
    const figures: Figure[] = [];
    const starts = [
      ...(python === undefined ? [] : torchKinds.map((kind) => () => diffusersPeer(python, kind, work))),
      ...sdClis.flatMap((cli) => ggufTypes.map((type) => async () => sdCppPeer(cli, type, work, scratch))),
    ];
    for (const start of starts) {
      const peer = await start();
      try {
        const ownBefore = own.length;
        const runs: Run[] = [];
        for (let i = 0; i < rounds; i++) {
          own.push(await easelSteps(work));
          runs.push(await peer.run());
        }
        const ratios = runs.map((run, i) => median(run.steps) / median(own[ownBefore + i]!.steps));
        figures.push(...stepFigures(peer.name, runs), figure("  its time over Easel's, round by round", "x", ratios));
      } finally {
        peer.stop();
      }
    }
    return [...stepFigures("Easel int8", own), ...figures];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function stepFigures(name: string, runs: readonly Run[]): Figure[] {
  return [
    figure(
      `a step: ${name}`,
      "s",
      runs.flatMap((run) => run.steps),
    ),
    figure(
      "  its peak memory",
      "MB",
      runs.map((run) => run.peakMb),
    ),
  ];
}

const median = (values: readonly number[]) => figure("", "s", values).median;

async function easelSteps({ width, height, textTokens, doubleBlocks, singleBlocks, threads }: FluxWork): Promise<Run> {
  const options = {
    "--size": `${width}x${height}`,
    "--precision": "int8",
    "--double-blocks": doubleBlocks,
    "--single-blocks": singleBlocks,
    "--text-tokens": textTokens,
    "--threads": threads,
    "--rounds": 3,
  };
  const args = Object.entries(options).flatMap(([name, value]) => [name, String(value)]);
  const main = join(import.meta.dirname, "main.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [main, "flux-step", ...args, "--json"]);
  const { secondsPerStep, maxRssBytes } = JSON.parse(stdout) as FluxStepFigures;
  return { steps: [secondsPerStep], peakMb: maxRssBytes / 2 ** 20 };
}
