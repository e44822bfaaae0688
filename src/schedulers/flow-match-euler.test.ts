import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelInvalidError } from "../errors.ts";
import { ConfigReader } from "../models/config-reader.ts";
import { FlowMatchEulerScheduler } from "./flow-match-euler.ts";

const fixturesDir = join(import.meta.dirname, "../../tests/fixtures");

interface SigmaCase {
  config: Record<string, unknown>;
  steps: number;
  imageSequenceLength: number;
  sigmas: number[];
}

function scheduler(config: Record<string, unknown>): FlowMatchEulerScheduler {
  return FlowMatchEulerScheduler.fromConfig(new ConfigReader(config, "scheduler/scheduler_config.json"));
}

describe("FlowMatchEulerScheduler", () => {
  it("gives diffusers' sigmas to the last bit, for every shift, step count and picture size", () => {
    const cases = JSON.parse(readFileSync(join(fixturesDir, "sigmas.json"), "utf8")) as SigmaCase[];
    expect(cases.length).toBeGreaterThan(100);
    for (const { config, steps, imageSequenceLength, sigmas } of cases) {
      const actual = scheduler(config).sigmas(steps, imageSequenceLength);
      expect([...actual], JSON.stringify({ config, steps, imageSequenceLength })).toEqual(sigmas);
    }
  });

  it.each(["flux-dev-tiny", "flux-schnell-tiny"])(
    "reads the scheduler_config.json that diffusers saved for %s",
    (name) => {
      const config = ConfigReader.read(join(fixturesDir, name, "scheduler"), "scheduler_config.json");
      const sigmas = FlowMatchEulerScheduler.fromConfig(config).sigmas(4, 16);
      expect(sigmas).toHaveLength(5);
      expect(sigmas[0]).toBe(1);
      expect(sigmas[4]).toBe(0);
    },
  );

  it("steps along the velocity by the change of sigma, rounding as float32 does", () => {
    const latents = Float32Array.of(1, -2, 0.1);
    const velocity = Float32Array.of(0.5, 0.3, -7);
    const dt = Math.fround(Math.fround(0.7) - Math.fround(0.9));
    const expected = [0, 1, 2].map((i) => Math.fround(latents[i]! + Math.fround(dt * velocity[i]!)));
    expect([...scheduler({}).step(latents, velocity, Math.fround(0.9), Math.fround(0.7))]).toEqual(expected);
    expect([...latents]).toEqual([1, -2, Math.fround(0.1)]);
  });

  it.each([
    ["_class_name", "DDIMScheduler"],
    ["num_train_timesteps", 500],
    ["use_karras_sigmas", true],
    ["use_exponential_sigmas", true],
    ["use_beta_sigmas", true],
    ["use_flow_sigmas", true],
    ["stochastic_sampling", true],
    ["invert_sigmas", true],
    ["time_shift_type", "cubic"],
    ["shift", 0],
    ["shift", "3"],
    ["shift_terminal", 1],
    ["base_shift", "a"],
    ["base_image_seq_len", 0.5],
    ["use_dynamic_shifting", 1],
  ])("refuses %s: %j and names the field", (field, value) => {
    expect(() => scheduler({ [field]: value })).toThrow(ModelInvalidError);
    expect(() => scheduler({ [field]: value })).toThrow(field);
  });

  it("refuses one step where a terminal sigma would divide by zero", () => {
    expect(() => scheduler({ shift_terminal: 0.1 }).sigmas(1, 16)).toThrow("at least 2 steps");
  });
});
