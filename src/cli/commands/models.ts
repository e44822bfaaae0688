/** `easel models`: what can be used, and what can be installed. */
import { loadConfig } from "../../config.ts";
import { howToInstall, ModelCatalog } from "../../engine/model-catalog.ts";

/** Prints the list, as a table or as JSON. */
export async function models({ json }: { json?: true }): Promise<void> {
  const { home } = loadConfig(process.env);
  const catalog = new ModelCatalog({ home });
  const [installed, missing] = await Promise.all([catalog.list(), catalog.missing()]);

  if (json) {
    const list = [
      ...installed.map(({ name, origin, nativeSize, license }) => ({
        name,
        status: origin,
        size: `${nativeSize.width}x${nativeSize.height}`,
        license: license ?? null,
      })),
      ...missing.map(({ name, license }) => ({ name, status: "not installed", size: null, license })),
    ];
    process.stdout.write(`${JSON.stringify({ models: list })}\n`);
    return;
  }

  const rows = [
    ...installed.map(({ name, origin, nativeSize, license }) => [
      name,
      origin,
      `${nativeSize.width}x${nativeSize.height}`,
      license ?? "",
    ]),
    ...missing.map(({ name, license }) => [name, "not installed", "", license]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows) {
    process.stdout.write(
      `${row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()}\n`,
    );
  }
  for (const model of missing) process.stderr.write(`${howToInstall(model)}\n`);
}
