/** What the processor can do that matters to networks. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, availableParallelism, cpus } from "node:os";
import { join } from "node:path";

/** Instruction sets that ONNX Runtime's products gain from, by the names that systems have for them. */
const instructionSetNames = {
  AVX2: ["avx2", "hw.optional.avx2_0"],
  "AVX-512": ["avx512f", "hw.optional.avx512f"],
  VNNI: ["avx512_vnni", "avx_vnni"],
  AMX: ["amx_int8"],
  "NEON dotprod": ["asimddp", "hw.optional.arm.FEAT_DotProd"],
  "NEON i8mm": ["i8mm", "hw.optional.arm.FEAT_I8MM"],
} as const;
export type InstructionSet = keyof typeof instructionSetNames;

/** Those that a processor of either kind could have. */
const byArchitecture: Readonly<Record<string, readonly InstructionSet[]>> = {
  x64: ["AVX2", "AVX-512", "VNNI", "AMX"],
  arm64: ["NEON dotprod", "NEON i8mm"],
};

export interface Processor {
  name: string;
  /** Cores, or hardware threads, that this process may use. */
  cores: number;
  /** Whether it has each of the instruction sets of its kind; undefined where the system does not tell. */
  instructionSets: Readonly<Partial<Record<InstructionSet, boolean>>> | undefined;
}

export interface ProcessorSearch {
  /** Where Linux's files are looked for. Default "/". */
  root?: string | undefined;
  /** As Node calls it. Default: this machine's. */
  architecture?: string | undefined;
}

/** This machine's processor. */
export function readProcessor({ root = "/", architecture = arch() }: ProcessorSearch = {}): Processor {
  const { name, features } = readFeatures(root);
  const sets = byArchitecture[architecture] ?? [];
  return {
    name: name ?? (cpus()[0]?.model.trim() || architecture),
    cores: availableParallelism(),
    instructionSets:
      features && Object.fromEntries(sets.map((set) => [set, instructionSetNames[set].some((n) => features.has(n))])),
  };
}

/**
 * Whether this processor sums products of bytes without saturating: ARM does, and x86 with VNNI. Without it int8 weights
 * must use half their range. Where the processor does not say, the answer is the careful one.
 */
export function multipliesBytesExactly(search: ProcessorSearch = {}): boolean {
  const { architecture = arch() } = search;
  return architecture === "arm64" || readProcessor(search).instructionSets?.["VNNI"] === true;
}

interface Features {
  name?: string | undefined;
  /** What it has, by the names that Linux and macOS have for it. */
  features?: ReadonlySet<string> | undefined;
}

/** As far as the system tells. */
function readFeatures(root: string): Features {
  try {
    if (process.platform === "linux") {
      const text = readFileSync(join(root, "proc/cpuinfo"), "utf8");
      const [, flags] = /^(?:flags|Features)\s*:(.*)$/m.exec(text) ?? [];
      const [, name] = /^model name\s*:\s*(.*\S)/m.exec(text) ?? [];
      return { name, features: flags === undefined ? undefined : new Set(flags.trim().split(/\s+/)) };
    }
    if (process.platform !== "darwin") return {};
    const settings = execFileSync("sysctl", ["hw.optional"], { encoding: "utf8", timeout: 5000 });
    return { features: new Set([...settings.matchAll(/^(hw\.optional\.\S+): 1$/gm)].map(([, name]) => name!)) };
  } catch {
    return {};
  }
}
