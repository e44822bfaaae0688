/**
 * The benchmark: `npm run bench [-- sketch] [--rounds N] [--json] [--python PYTHON]`.
 *
 * Measures whole commands and a running server from outside, as a user meets them, and prints medians. With `--python`, a
 * Python that has diffusers draws the same pictures in the same run, in turn with Easel.
 */
import { parseArgs } from "node:util";
import { benchSketch } from "./sketch.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "7" },
    json: { type: "boolean", default: false },
    python: { type: "string" },
  },
});

const [name = "sketch"] = positionals;
if (name !== "sketch") {
  console.error(`bench: there is no benchmark "${name}"; try "sketch".`);
  process.exit(2);
}
const figures = await benchSketch({ rounds: Number(values.rounds), python: values.python });
if (values.json) {
  console.log(JSON.stringify(figures));
} else {
  for (const { what, median, min, max, unit, limit } of figures) {
    const bound = limit === undefined ? "" : `  (wanted: at most ${limit} ${unit})`;
    console.log(`${what.padEnd(58)} ${format(median)} ${unit}  [${format(min)} to ${format(max)}]${bound}`);
  }
}

function format(value: number): string {
  return value.toFixed(value < 10 ? 2 : 0).padStart(6);
}
