/** How much memory a large result takes, measured. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { expect, test } from "vitest";
import { PeakMemory } from "../bench/measure.ts";
import { cliCommand } from "./support/run-cli.ts";

/** Resident, of the command line and its engine process together. */
const mostMb = 1500;

test.runIf(process.platform === "linux")(
  `a result of 4096x4096 pixels with transparency takes at most ${mostMb} MB, two processes together`,
  async () => {
    const cwd = mkdtempSync(join(tmpdir(), "easel-upscale-memory-"));
    const noise = { type: "gaussian", mean: 128, sigma: 50 } as const;
    // Noise compresses worst; half transparent, it is enlarged twice.
    await sharp({ create: { width: 1024, height: 1024, channels: 3, background: "#000", noise } })
      .ensureAlpha(0.5)
      .png()
      .toFile(join(cwd, "large.png"));
    const { command, env } = cliCommand(["upscale", "large.png", "--scale", "4"], { cwd, env: { EASEL_THREADS: "2" } });
    const [program, ...args] = command;
    const child = spawn(program, args, { cwd, env, stdio: "ignore" });
    const memory = new PeakMemory(child);
    const code = await new Promise((resolve) => child.on("exit", resolve));
    const peakMb = memory.stop();
    expect(code).toBe(0);
    expect(await sharp(join(cwd, "large-x4.png")).metadata()).toMatchObject({ width: 4096, height: 4096, channels: 4 });
    // Less than this would mean that nothing was measured: the picture alone has 67 MB.
    expect(peakMb).toBeGreaterThan(200);
    expect(peakMb).toBeLessThan(mostMb);
    rmSync(cwd, { recursive: true });
  },
  120_000,
);
