/** A checkup for programs. */
import type { Checkup } from "../engine/checkup.ts";

/** Sizes in bytes, names in snake_case; null for what is not known. */
export function toCheckupJson(checkup: Checkup): object {
  const { versions, processor, memory, disk, gpus, devices, models, upscalers, problems } = checkup;
  return {
    ok: problems.length === 0,
    problems,
    versions: { easel: versions.easel, node: versions.node, onnx_runtime: versions.onnxRuntime },
    processor: {
      name: processor.name,
      cores: processor.cores,
      instruction_sets: processor.instructionSets ?? null,
    },
    memory: {
      available_bytes: memory.availableBytes,
      total_bytes: memory.totalBytes,
      machine_bytes: memory.machineBytes,
    },
    disk: {
      home: disk.home,
      free_bytes: disk.freeBytes,
      total_bytes: disk.totalBytes,
      models_bytes: disk.modelsBytes,
      cache_bytes: disk.cacheBytes,
    },
    gpus: gpus.map(({ name, memoryBytes }) => ({ name, memory_bytes: memoryBytes ?? null })),
    devices: devices.map(({ device, problem, operationsPerSecond, halfPrecision, attends }) => ({
      device,
      works: problem === undefined,
      problem: problem ?? null,
      gflops: operationsPerSecond === undefined ? null : Math.round(operationsPerSecond / 1e9),
      half_precision: halfPrecision === true,
      attention_on_cpu: attends === false,
    })),
    models: models.map(({ name, state, missingBytes, outlook, converted }) => ({
      name,
      state: state.replaceAll(" ", "_"),
      missing_bytes: missingBytes,
      converted,
      outlook: outlook === undefined ? null : toOutlookJson(outlook),
    })),
    upscalers,
  };
}

function toOutlookJson({
  device,
  reason,
  precision,
  fits,
  precisions,
}: NonNullable<Checkup["models"][number]["outlook"]>) {
  return {
    device,
    reason: reason ?? null,
    precision,
    fits,
    precisions: precisions.map((one) => ({ precision: one.precision, needed_bytes: one.neededBytes, fits: one.fits })),
  };
}
