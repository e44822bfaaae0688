/** The GPUs that the system tells of, without using them. */
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export interface Gpu {
  /** As far as the system tells: "NVIDIA H100 80GB HBM3", or "AMD GPU". */
  name: string;
  /** Undefined when the system does not tell. Bytes. */
  memoryBytes: number | undefined;
}

export interface GpuSearch {
  /** Where the system's files are looked for. Default "/". */
  root?: string | undefined;
  /** NVIDIA's program that lists its GPUs. Default "nvidia-smi". */
  nvidiaSmi?: string | undefined;
}

/** Whether programs may use a GPU here at all. Only Linux tells; elsewhere the answer is that it may be so. */
export async function mayHaveGpu(root = "/"): Promise<boolean> {
  if (process.platform !== "linux") return true;
  // Somebody who names a driver knows better than the list of devices.
  if (process.env["VK_DRIVER_FILES"] || process.env["VK_ICD_FILENAMES"]) return true;
  const [devices, renderers] = await Promise.all([entries(join(root, "dev")), entries(join(root, "dev/dri"))]);
  return devices.some((name) => /^(nvidia\d+|dxg)$/.test(name)) || renderers.some((name) => /^renderD\d+$/.test(name));
}

/** The GPUs of NVIDIA, wherever its driver is, and on Linux those of others. */
export async function listGpus({ root = "/", nvidiaSmi = "nvidia-smi" }: GpuSearch = {}): Promise<Gpu[]> {
  const [nvidia, others] = await Promise.all([nvidiaGpus(nvidiaSmi), linuxGpus(root)]);
  return [...nvidia, ...others.filter(({ name }) => nvidia.length === 0 || !name.startsWith("NVIDIA"))];
}

async function nvidiaGpus(program: string): Promise<Gpu[]> {
  try {
    const query = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"];
    const { stdout } = await promisify(execFile)(program, query, { timeout: 10_000 });
    return stdout.split("\n").flatMap((line) => {
      const [, name, mebibytes] = /^(.+), (\d+|\[.*\])\s*$/.exec(line) ?? [];
      if (name === undefined) return [];
      const memoryBytes = Number(mebibytes) * 2 ** 20;
      return [{ name, memoryBytes: Number.isFinite(memoryBytes) ? memoryBytes : undefined }];
    });
  } catch {
    return [];
  }
}

/** By the identifiers of the PCI Special Interest Group. */
const vendors: Readonly<Record<string, string>> = { "0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel" };

async function linuxGpus(root: string): Promise<Gpu[]> {
  const cards = (await entries(join(root, "sys/class/drm"))).filter((name) => /^card\d+$/.test(name));
  const gpus = await Promise.all(
    cards.map(async (card): Promise<Gpu | undefined> => {
      const device = join(root, "sys/class/drm", card, "device");
      const vendor = vendors[await text(join(device, "vendor"))];
      // AMD's driver tells of the memory; 0 and nothing are no answers.
      const memoryBytes = Number(await text(join(device, "mem_info_vram_total"))) || undefined;
      return vendor === undefined ? undefined : { name: `${vendor} GPU`, memoryBytes };
    }),
  );
  return gpus.filter((gpu) => gpu !== undefined);
}

async function entries(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort();
}

async function text(path: string): Promise<string> {
  return (await readFile(path, "utf8").catch(() => "")).trim();
}
