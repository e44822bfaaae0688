/** `--lora`: names from `$EASEL_HOME/loras`, or, on the command line only, files; each with a scale behind a colon. */
import { statSync } from "node:fs";
import type { Config } from "../config.ts";
import { invalidRequest, parseLora, requestFields } from "../engine/generation-request.ts";
import { LoraCatalog, type LoraChoice, loraName } from "../engine/lora-catalog.ts";
import { EaselError } from "../errors.ts";

export interface ChosenLoras {
  catalog: LoraCatalog;
  choices: LoraChoice[];
}

/** What the flags name, and a catalog in which it is found. Throws `invalid_request` for a file that is not there. */
export function chooseLoras(flags: readonly string[] = [], config: Config): ChosenLoras {
  const files: string[] = [];
  const choices = flags.map((flag) => {
    const { name, scale } = parseLora(flag);
    if (!/[/\\]|\.safetensors$/.test(name)) return { name, scale };
    if (!statSync(name, { throwIfNoEntry: false })?.isFile()) {
      throw new EaselError("invalid_request", `--lora ${name}: there is no such file.`, { param: "--lora" });
    }
    files.push(name);
    return { name: loraName(name), scale };
  });
  const parsed = requestFields(config).loras.safeParse(choices);
  if (!parsed.success) {
    throw invalidRequest(parsed.error.issues.map(({ message }) => ({ path: ["--lora"], message })));
  }
  return { catalog: new LoraCatalog({ home: config.home, files }), choices };
}
