/**
 * Multiplies matrices on one device, checks the product, and tells how fast it was. It is a process of its own: a driver
 * that crashes or hangs must cost nothing but this.
 */
import { attendsRightly, multipliesHalves } from "./device-checks.ts";
import type { Trial } from "./device-trial.ts";
import type { ResolvedDevice } from "./devices.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { Session } from "./session.ts";

const width = 1024;
/** Products in a row, so that a fast device is not measured by how fast it is fed. */
const depth = 16;
/** A run that takes this long can be measured; one that takes so long with the fewest rows is hopeless. */
const measurableMs = 20;
const [fewestRows, mostRows] = [4, 1024];
/** Of the largest value: half-precision products differ by a tenth of this, wrong ones by far more. */
const tolerance = 0.02;

async function tryDevice(device: ResolvedDevice): Promise<Trial> {
  // Scaled so that products are about as large as what they were made of.
  const matrix = Float32Array.from({ length: width * width }, (_, i) => Math.sin(i * i) * Math.sqrt(2 / width));
  const graph = new GraphBuilder("trial");
  const weight = graph.constant(matrix, [width, width]);
  let y = graph.input("x", "float32", ["rows", width]);
  for (let i = 0; i < depth; i++) y = graph.linear(y, weight);
  graph.output("y", y);
  const session = await Session.create(graph.build(), { device, threads: 0 });

  for (let rows = fewestRows; ; rows *= 2) {
    const inputs = { x: { data: matrix.slice(0, rows * width), dims: [rows, width] } };
    const results = await session.run(inputs); // also makes the device's program
    if (rows === fewestRows && !isProduct(results["y"]!.data, matrix))
      return { works: false, reason: "it computes wrongly" };
    const startedMs = performance.now();
    await session.run(inputs);
    const ms = performance.now() - startedMs;
    if (ms < measurableMs && rows < mostRows) continue;
    const operationsPerSecond = (2 * depth * rows * width * width * 1000) / ms;
    return { works: true, operationsPerSecond, attends: await attendsRightly(device), halfPrecision: false };
  }
}

/** Whether the first row of `actual` is that of the product. */
function isProduct(actual: Float32Array, matrix: Float32Array): boolean {
  let row = matrix.slice(0, width);
  for (let i = 0; i < depth; i++) {
    row = row.map((_, column) => row.reduce((sum, value, j) => sum + value * matrix[column * width + j]!, 0));
  }
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return row.every((value, column) => Math.abs(actual[column]! - value) < tolerance * largest);
}

function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/^The model could not be loaded: /, "").replace(/\.$/, "");
}

/** The last one counts. */
async function tell(trial: Trial): Promise<void> {
  await new Promise((resolve) => process.send?.(trial, undefined, undefined, resolve));
}

const device = process.argv[2] as ResolvedDevice;
const trial = await tryDevice(device).catch((error: unknown): Trial => {
  return { works: false, reason: reason(error) };
});
// Some drivers crash, now or when their process ends in order: what is known is said first, and it ends without them.
await tell(trial);
if (trial.works && device !== "cpu") {
  await tell({ ...trial, halfPrecision: await multipliesHalves(device, trial.attends).catch(() => false) });
}
process.kill(process.pid, "SIGKILL");
