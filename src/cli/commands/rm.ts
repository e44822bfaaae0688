/** `easel rm`: removes an installed model, or forgets a registered one. */
import { loadConfig } from "../../config.ts";
import { builtInModel, ModelCatalog } from "../../engine/model-catalog.ts";
import { ModelStore } from "../../engine/model-store.ts";
import { InvalidRequestError } from "../../errors.ts";
import { formatBytes } from "../../weights/hub/byte-size.ts";

/** Throws `invalid_request` for models that are not Easel's to remove, `model_not_found`, `io_failed`. */
export async function rm(name: string): Promise<void> {
  const { home, hubCache } = loadConfig(process.env);
  if (name === builtInModel) throw new InvalidRequestError("model", `${name} is built in and cannot be removed.`);
  const model = (await new ModelCatalog({ home, hubCache }).list()).find((candidate) => candidate.name === name);
  if (model?.origin === "cached") {
    throw new InvalidRequestError(
      "model",
      `${name} lies in the Hugging Face cache, which other programs use too; remove it there: ${model.folder}`,
    );
  }
  const { freedBytes, kept } = await new ModelStore(home).remove(name);
  const stays = kept.length === 1 ? "stays as it is" : "stay as they are";
  const outcome = kept.length === 0 ? `${formatBytes(freedBytes)} freed` : `${kept.join(", ")} ${stays}`;
  process.stdout.write(`${name} removed; ${outcome}.\n`);
}
