/** A checkup for people. */
import type { Checkup, ModelReport } from "../engine/checkup.ts";
import { deviceTitles } from "../onnx/devices.ts";
import { formatBytes } from "../weights/hub/byte-size.ts";
import { modelStates } from "./model-states.ts";

const labelWidth = 12;

/** Several lines, the last one ended. */
export function describeCheckup(checkup: Checkup): string {
  const { versions, disk, gpus, models, upscalers, problems } = checkup;
  const lines = [
    `Easel ${versions.easel}, ONNX Runtime ${versions.onnxRuntime}, Node ${versions.node}`,
    "",
    line("Processor", describeProcessor(checkup)),
    line("Memory", describeMemory(checkup)),
    line("Disk", `${formatBytes(disk.freeBytes)} free of ${formatBytes(disk.totalBytes)} for ${disk.home}`),
    line("", `${formatBytes(disk.modelsBytes)} of models there, ${formatBytes(disk.cacheBytes)} of converted weights`),
    line("GPU", gpus.map(describeGpu).join(", ") || "none that the system tells of"),
    ...checkup.devices.map((report, i) => line(i === 0 ? "Devices" : "", describeDevice(report))),
    line("Upscalers", upscalers.map(({ name, usable }) => (usable ? name : `${name} (damaged)`)).join(", ")),
    "",
    ...models.flatMap((model) => describeModel(model, checkup)),
    "",
    problems.length === 0 ? "All that is needed works." : "Something is broken; see below.",
  ];
  return `${lines.join("\n")}\n`;
}

function line(label: string, text: string): string {
  return label.padEnd(labelWidth) + text;
}

function describeProcessor({ processor: { name, cores, instructionSets } }: Checkup): string {
  const sets = Object.entries(instructionSets ?? {});
  const [present, absent] = [true, false].map((has) => sets.filter(([, value]) => value === has).map(([set]) => set));
  const told = [
    ...(present!.length > 0 ? [present!.join(", ")] : []),
    ...(absent!.length > 0 ? [`without ${absent!.join(", ")}`] : []),
  ].join("; ");
  const count = `${cores} ${cores === 1 ? "core" : "cores"}`;
  const careful = instructionSets?.VNNI === false ? " (int8 is a little less exact without VNNI)" : "";
  return `${name}, ${count}: ${told || "the system does not tell its instruction sets"}${careful}`;
}

function describeMemory({ memory: { availableBytes, totalBytes, machineBytes } }: Checkup): string {
  const limit =
    totalBytes < machineBytes
      ? `, the limit of this container, service or configuration; the machine has ${formatBytes(machineBytes)}`
      : "";
  return `${formatBytes(availableBytes)} available of ${formatBytes(totalBytes)}${limit}`;
}

function describeGpu({ name, memoryBytes }: Checkup["gpus"][number]): string {
  return memoryBytes === undefined ? name : `${name} (${formatBytes(memoryBytes)})`;
}

function describeDevice(report: Checkup["devices"][number]): string {
  const { device, problem, operationsPerSecond, halfPrecision, attends } = report;
  if (problem !== undefined) return `${device.padEnd(7)} not usable: ${problem}`;
  const speed = operationsPerSecond === undefined ? "" : `, ${Math.round(operationsPerSecond / 1e9)} GFLOP/s in fp32`;
  const halves = device === "cpu" ? "" : halfPrecision === true ? ", fp16 too" : ", no fp16";
  return `${device.padEnd(7)} works${speed}${halves}${attends === false ? "; attention is left to the CPU" : ""}`;
}

function describeModel({ name, state, missingBytes, outlook, converted }: ModelReport, checkup: Checkup): string[] {
  const title = `${name}: ${state in modelStates ? modelStates[state as keyof typeof modelStates] : state}`;
  if (outlook === undefined) return [title];
  const { device, reason, precision, neededBytes, fits, precisions } = outlook;
  const here = missingBytes === 0;
  const why = reason === undefined ? "" : `: ${reason}`;
  const verdicts = {
    now: `${here ? "runs" : "would run"} in ${precision} on ${deviceTitles[device]}${why}`,
    alone: `fits in ${precision} on ${deviceTitles[device]} when other programs end`,
    never: `does not fit: ${precision} needs ${formatBytes(neededBytes)} of memory`,
  };
  const memory = precisions.map((one) => {
    const verdict = one.fits ? "fits" : "does not fit";
    return `${one.precision} ${verdict} (${formatBytes(one.neededBytes)}${converted.includes(one.precision) ? ", converted" : ""})`;
  });
  const available = formatBytes(checkup.memory.availableBytes);
  return [
    `${title}; ${verdicts[fits]}`,
    `  memory on the CPU: ${memory.join(", ")}; ${available} available`,
    ...(here ? [] : [`  ${describeDownload(missingBytes, checkup)}`]),
  ];
}

function describeDownload(missingBytes: number, { disk: { freeBytes } }: Checkup): string {
  const room =
    missingBytes <= freeBytes ? "the disk has room for it" : `the disk has only ${formatBytes(freeBytes)} free`;
  return `download: ${formatBytes(missingBytes)}, ${room}`;
}
