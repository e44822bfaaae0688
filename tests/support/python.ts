/** The Python with the packages of tests/python/requirements.txt: EASEL_TEST_PYTHON, or `python3`. */
import { execFileSync } from "node:child_process";

/**
 * The interpreter's path if it has all of `modules`. Without them it is undefined, which is said aloud; in CI that is an error,
 * because what needs them must not be skipped there.
 */
export function findPython(purpose: string, modules: readonly string[]): string | undefined {
  const candidate = process.env["EASEL_TEST_PYTHON"] ?? "python3";
  try {
    const check = `import ${modules.join(", ")}, sys; print(sys.executable)`;
    return execFileSync(candidate, ["-c", check], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    const reason = `${candidate} lacks the packages of tests/python/requirements.txt`;
    if (process.env["CI"]) throw new Error(`${purpose} must be tested in CI, but ${reason}.`);
    console.warn(`SKIPPED: ${purpose}: ${reason} (EASEL_TEST_PYTHON names another).`);
    return undefined;
  }
}
