/** `easel doctor`: what this machine has, what is installed, what would run well, and what is broken. */
import { loadConfig } from "../../config.ts";
import { examine } from "../../engine/checkup.ts";
import { describeCheckup } from "../checkup-text.ts";
import { toCheckupJson } from "../checkup-json.ts";
import { exitCodes } from "../exit-codes.ts";

/** Prints what was found, tells on stderr what is broken, and returns the exit code. */
export async function doctor({ json }: { json?: true }): Promise<number> {
  const checkup = await examine(loadConfig(process.env));
  process.stdout.write(json ? `${JSON.stringify(toCheckupJson(checkup))}\n` : describeCheckup(checkup));
  if (!json) for (const problem of checkup.problems) process.stderr.write(`easel: ${problem}\n`);
  return checkup.problems.length === 0 ? exitCodes.success : exitCodes.failure;
}
