/** What people are told about where a usable model comes from. */
import type { CatalogModel } from "../engine/model-catalog.ts";

export const modelStates: Readonly<Record<CatalogModel["origin"], string>> = {
  "built-in": "built-in",
  installed: "installed",
  linked: "registered",
  assembled: "registered",
  cached: "in the HF cache",
  folder: "folder",
};
