/** diffusers' FLUX transformer on PyTorch, with random weights, in a Python process that stays from round to round. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PeakMemory } from "../measure.ts";
import type { FluxWork, Peer } from "./peer.ts";

/** int8 is PyTorch's dynamic quantization of every linear layer, with the engine of that name. */
export const torchKinds = ["int8-onednn", "int8-fbgemm", "fp32", "bf16"] as const;
export type TorchKind = (typeof torchKinds)[number];

const stepsPerRun = 3;

/** Starts `python`, which needs torch and diffusers, and warms it up. The memory is that of the steps, not of quantizing before. */
export async function diffusersPeer(python: string, kind: TorchKind, work: FluxWork): Promise<Peer> {
  const script = join(import.meta.dirname, "diffusers_flux_step.py");
  const child = spawn(python, [script, JSON.stringify({ ...work, kind })], { stdio: ["pipe", "pipe", "inherit"] });
  const failed = new Promise<never>((_, reject) => child.on("error", reject));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const step = async () => {
    child.stdin.write("step\n");
    const { value, done } = await Promise.race([lines.next(), failed]);
    if (done === true) throw new Error(`the diffusers peer (${kind}) ended early`);
    return Number(value);
  };
  await step(); // warms it up
  return {
    name: `diffusers ${kind}`,
    async run() {
      const memory = new PeakMemory(child);
      const steps = [];
      for (let i = 0; i < stepsPerRun; i++) steps.push(await step());
      return { steps, peakMb: memory.stop() };
    },
    stop: () => child.kill(),
  };
}
