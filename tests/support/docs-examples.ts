/** The examples of a documentation page: fenced code that follows a `<!-- test: NAME -->` comment. */
import { readFileSync } from "node:fs";

export function docsExamples(path: URL): Map<string, string> {
  const examples = new Map<string, string>();
  for (const [, name, code] of readFileSync(path, "utf8").matchAll(/<!-- test: (\S+) -->\n+```\w+\n([^]*?)\n```/g)) {
    examples.set(name!, code!);
  }
  return examples;
}
