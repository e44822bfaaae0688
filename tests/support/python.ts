/** Interpreters with the Python packages of the tests: EASEL_TEST_PYTHON and EASEL_TEST_PYTHON_OLD, or `python3`. */
import { execFileSync } from "node:child_process";

/** The environment's variable for each file of requirements in tests/python. */
const variables = {
  "requirements.txt": "EASEL_TEST_PYTHON",
  "requirements-old.txt": "EASEL_TEST_PYTHON_OLD",
} as const;

/**
 * The interpreter's path if it has all of `modules`, and `condition` holds when they are imported. Without that it is undefined,
 * which is said aloud; in CI that is an error, because what needs them must not be skipped there.
 */
export function findPython(
  purpose: string,
  modules: readonly string[],
  {
    requirements = "requirements.txt",
    condition = "True",
  }: { requirements?: keyof typeof variables; condition?: string } = {},
): string | undefined {
  const variable = variables[requirements];
  const candidate = process.env[variable] ?? "python3";
  try {
    const check = `import ${modules.join(", ")}, sys; assert ${condition}; print(sys.executable)`;
    return execFileSync(candidate, ["-c", check], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    const reason = `${candidate} lacks the packages of tests/python/${requirements}`;
    if (process.env["CI"]) throw new Error(`${purpose} must be tested in CI, but ${reason}.`);
    console.warn(`SKIPPED: ${purpose}: ${reason} (${variable} names another).`);
    return undefined;
  }
}
