/** `easel models`: what can be used, and what can be installed. */
import { loadConfig } from "../../config.ts";
import { type CatalogModel, howToInstall, ModelCatalog, type MissingModel } from "../../engine/model-catalog.ts";
import { ModelStore, type StoredModel } from "../../engine/model-store.ts";
import type { EaselError } from "../../errors.ts";
import { formatBytes } from "../../weights/hub/byte-size.ts";
import { modelBytes, storedPrecision } from "../../weights/model-folder.ts";
import { modelStates } from "../model-states.ts";

/** A line of the list; `null` for what is not known or does not apply. */
interface Row {
  name: string;
  status: string;
  /** The pictures' size when none is asked for. */
  size: string | null;
  /** On disk; of a model that is not installed, about what it will take. */
  bytes: number;
  /** Of the stored weights. */
  precision: string | null;
  license: string | null;
}

/** Prints the list, as a table or as JSON. */
export async function models({ json }: { json?: true }): Promise<void> {
  const { home, hubCache } = loadConfig(process.env);
  const catalog = new ModelCatalog({ home, hubCache });
  const [usable, missing, stored] = await Promise.all([catalog.list(), catalog.missing(), new ModelStore(home).list()]);
  const broken = stored.filter(({ name }) => !usable.some((model) => model.name === name));
  const rows = [
    ...(await Promise.all(usable.map(describeUsable))),
    ...broken.map(describeBroken),
    ...missing.map(describeMissing),
  ];

  if (json) {
    process.stdout.write(`${JSON.stringify({ models: rows })}\n`);
    return;
  }
  const cells = rows.map(({ name, status, size, bytes, precision, license }) => [
    name,
    status,
    size ?? "",
    formatBytes(bytes),
    precision ?? "",
    license ?? "",
  ]);
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  for (const row of cells) {
    const line = row.map((cell, column) =>
      column === 3 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
    );
    process.stdout.write(`${line.join("  ").trimEnd()}\n`);
  }
  for (const { name } of broken) {
    await catalog.resolve(name).catch((error: EaselError) => process.stderr.write(`${error.message}\n`));
  }
  for (const model of missing) process.stderr.write(`${howToInstall(model)}\n`);
}

async function describeUsable({ name, origin, folder, nativeSize, license }: CatalogModel): Promise<Row> {
  const bytes = await modelBytes(folder);
  const precision = storedPrecision(folder);
  const size = `${nativeSize.width}x${nativeSize.height}`;
  return { name, status: modelStates[origin], size, bytes, precision: precision ?? null, license: license ?? null };
}

function describeBroken({ name, license }: StoredModel): Row {
  return { name, status: "unusable", size: null, bytes: 0, precision: null, license: license ?? null };
}

function describeMissing({ name, progress, downloadBytes: bytes, license }: MissingModel): Row {
  const status = progress === undefined ? "not installed" : `partial ${Math.floor(progress * 100)} %`;
  return { name, status, size: null, bytes, precision: null, license };
}
