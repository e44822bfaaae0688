/**
 * The noise schedule and the Euler step of flow matching, as FluxPipeline uses diffusers'
 * `FlowMatchEulerDiscreteScheduler`: sigmas fall from 1 to 0, bent towards the noisy end by a fixed shift or, with dynamic
 * shifting, by one that grows with the picture. Every value is rounded to float32 where diffusers' arrays are.
 */
import { InvalidRequestError } from "../errors.ts";
import type { ConfigReader } from "../models/config-reader.ts";

export interface FlowMatchEulerConfig {
  shift: number;
  useDynamicShifting: boolean;
  timeShiftType: "exponential" | "linear";
  /** Dynamic shifting: the shift at `baseImageSeqLen` tokens and at `maxImageSeqLen`, a line between and beyond. */
  baseShift: number;
  maxShift: number;
  baseImageSeqLen: number;
  maxImageSeqLen: number;
  /** Where the last sigma before 0 is stretched to; 0 for no stretching. */
  shiftTerminal: number;
}

const fround = Math.fround;

export class FlowMatchEulerScheduler {
  readonly config: Readonly<FlowMatchEulerConfig>;

  constructor(config: FlowMatchEulerConfig) {
    this.config = config;
  }

  /**
   * Reads `scheduler_config.json`; absent fields have diffusers' defaults.
   *
   * @throws ModelInvalidError naming a field that Easel cannot honour.
   */
  static fromConfig(config: ConfigReader): FlowMatchEulerScheduler {
    config.oneOf("_class_name", ["FlowMatchEulerDiscreteScheduler"], "FlowMatchEulerDiscreteScheduler");
    // The transformer's timestep embedding takes 1000 for granted.
    config.oneOf("num_train_timesteps", [1000], 1000);
    for (const field of [
      "use_karras_sigmas",
      "use_exponential_sigmas",
      "use_beta_sigmas",
      "use_flow_sigmas",
      "stochastic_sampling",
      "invert_sigmas",
    ]) {
      config.oneOf(field, [false], false);
    }
    const parsed: FlowMatchEulerConfig = {
      shift: config.number("shift", 1),
      useDynamicShifting: config.bool("use_dynamic_shifting", false),
      timeShiftType: config.oneOf("time_shift_type", ["exponential", "linear"], "exponential"),
      baseShift: config.number("base_shift", 0.5),
      maxShift: config.number("max_shift", 1.15),
      baseImageSeqLen: config.int("base_image_seq_len", { default: 256 }),
      maxImageSeqLen: config.int("max_image_seq_len", { default: 4096 }),
      shiftTerminal: config.number("shift_terminal", 0),
    };
    if (parsed.shift <= 0) config.refuse("shift", "a number above 0");
    if (parsed.shiftTerminal < 0 || parsed.shiftTerminal >= 1) config.refuse("shift_terminal", "a number in [0, 1)");
    if (parsed.useDynamicShifting && parsed.maxImageSeqLen === parsed.baseImageSeqLen) {
      config.refuse("max_image_seq_len", "a number other than base_image_seq_len");
    }
    return new FlowMatchEulerScheduler(parsed);
  }

  /**
   * The sigmas of a generation, noisiest first, with the closing 0. [numInferenceSteps + 1]
   *
   * @param imageSequenceLength the number of image tokens
   * @throws InvalidRequestError when a single step is asked of a schedule that is stretched to a terminal sigma.
   */
  sigmas(numInferenceSteps: number, imageSequenceLength: number): Float32Array {
    const sigmas = evenSigmas(numInferenceSteps);
    if (this.config.useDynamicShifting) this.#shiftDynamically(sigmas, imageSequenceLength);
    else this.#shiftStatically(sigmas);
    if (this.config.shiftTerminal !== 0) this.#stretchToTerminal(sigmas);
    const closed = new Float32Array(numInferenceSteps + 1);
    closed.set(sigmas);
    return closed;
  }

  /** One Euler step along `velocity`, from `sigma` to `sigmaNext`; any shape, the same for both arrays. */
  step(latents: Float32Array, velocity: Float32Array, sigma: number, sigmaNext: number): Float32Array {
    const dt = fround(sigmaNext - sigma);
    return latents.map((value, i) => value + fround(dt * velocity[i]!));
  }

  /** diffusers' `calculate_shift`. */
  #mu(imageSequenceLength: number): number {
    const { baseShift, maxShift, baseImageSeqLen, maxImageSeqLen } = this.config;
    const slope = (maxShift - baseShift) / (maxImageSeqLen - baseImageSeqLen);
    return imageSequenceLength * slope + (baseShift - slope * baseImageSeqLen);
  }

  #shiftDynamically(sigmas: Float32Array, imageSequenceLength: number): void {
    const mu = this.#mu(imageSequenceLength);
    const pull = fround(this.config.timeShiftType === "exponential" ? Math.exp(mu) : mu);
    for (const [i, sigma] of sigmas.entries()) {
      sigmas[i] = pull / fround(pull + fround(fround(1 / sigma) - 1));
    }
  }

  #shiftStatically(sigmas: Float32Array): void {
    const shift = fround(this.config.shift);
    const excess = fround(this.config.shift - 1);
    for (const [i, sigma] of sigmas.entries()) {
      sigmas[i] = fround(shift * sigma) / fround(1 + fround(excess * sigma));
    }
  }

  /** Scales the distances from 1 so that the last sigma lands on `shiftTerminal`. */
  #stretchToTerminal(sigmas: Float32Array): void {
    const lastDistance = fround(1 - sigmas.at(-1)!);
    if (lastDistance === 0) throw new InvalidRequestError("steps", "This model's schedule needs at least 2 steps.");
    const scale = fround(lastDistance / fround(1 - this.config.shiftTerminal));
    for (const [i, sigma] of sigmas.entries()) sigmas[i] = 1 - fround(fround(1 - sigma) / scale);
  }
}

/** numpy's `linspace(1, 1 / steps, steps)`, in float32. */
function evenSigmas(steps: number): Float32Array {
  const last = 1 / steps;
  const stride = (last - 1) / (steps - 1);
  return Float32Array.from({ length: steps }, (_, i) => {
    if (i === 0) return 1;
    return i === steps - 1 ? last : i * stride + 1;
  });
}
