/**
 * Which of a graph's operations ran on the CPU although it runs on another device. ONNX Runtime says so in the profile of a
 * run and nowhere else; so the first run is profiled.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class PlacementProfile implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "easel-placement-"));

  /** Begins the profile's file name. */
  get prefix(): string {
    return join(this.#folder, "profile");
  }

  /**
   * Names of the operations that the CPU did, once the profile is written. Arithmetic on shapes is not counted: every device
   * leaves it to the CPU.
   */
  cpuOperations(): string[] {
    const [file] = readdirSync(this.#folder);
    if (file === undefined) return [];
    return cpuOperations(JSON.parse(readFileSync(join(this.#folder, file), "utf8")) as ProfileEvent[]);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** An entry of a profile, in Chrome's trace format. */
interface ProfileEvent {
  cat?: string;
  args?: { provider?: string; op_name?: string; output_type_shape?: Readonly<Record<string, readonly number[]>>[] };
}

function cpuOperations(events: readonly ProfileEvent[]): string[] {
  const names = events.flatMap(({ cat, args: { provider, op_name: name, output_type_shape: outputs = [] } = {} }) => {
    const types = outputs.flatMap((output) => Object.keys(output));
    const isBookkeeping = types.length > 0 && types.every((type) => type === "int64");
    return cat === "Node" && provider === "CPUExecutionProvider" && !isBookkeeping ? (name ?? []) : [];
  });
  return [...new Set(names)].sort();
}
