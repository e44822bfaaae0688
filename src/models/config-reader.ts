/** Reads a component's `config.json`: every value is checked, and one that Easel cannot honour is named in the error. */
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ModelInvalidError } from "../errors.ts";

export class ConfigReader {
  readonly #values: Readonly<Record<string, unknown>>;
  /** "transformer/config.json" */
  readonly #label: string;

  constructor(values: Readonly<Record<string, unknown>>, label: string) {
    this.#values = values;
    this.#label = label;
  }

  /** @throws ModelInvalidError when the file is missing or is not a JSON object. */
  static read(dir: string, file = "config.json"): ConfigReader {
    return ConfigReader.readFile(join(dir, file));
  }

  static readFile(path: string): ConfigReader {
    const label = `${basename(dirname(path))}/${basename(path)}`;
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (cause) {
      throw new ModelInvalidError(`The model's file ${label} is missing or unreadable; copy the whole model folder.`, {
        cause,
      });
    }
    let values: unknown;
    try {
      values = JSON.parse(text);
    } catch (cause) {
      throw new ModelInvalidError(`The model's file ${label} is not valid JSON.`, { cause });
    }
    if (typeof values !== "object" || values === null || Array.isArray(values)) {
      throw new ModelInvalidError(`The model's file ${label} is not a JSON object.`);
    }
    return new ConfigReader(values as Record<string, unknown>, label);
  }

  has(field: string): boolean {
    return Object.hasOwn(this.#values, field);
  }

  /** A whole number of at least `min` (default 1). */
  int(field: string, options: { default?: number; min?: number } = {}): number {
    const value = this.#values[field] ?? options.default;
    const min = options.min ?? 1;
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > 1e6) {
      this.refuse(field, `a whole number of at least ${min}`);
    }
    return value as number;
  }

  /** A finite number. */
  number(field: string, fallback?: number): number {
    const value = this.#values[field] ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) this.refuse(field, "a number");
    return value as number;
  }

  string(field: string): string {
    const value = this.#values[field];
    if (typeof value !== "string") this.refuse(field, "a text");
    return value as string;
  }

  bool(field: string, fallback?: boolean): boolean {
    const value = this.#values[field] ?? fallback;
    if (typeof value !== "boolean") this.refuse(field, "true or false");
    return value as boolean;
  }

  /** A list of whole numbers of at least 1. */
  ints(field: string, fallback?: readonly number[]): readonly number[] {
    const value = this.#values[field] ?? fallback;
    if (!Array.isArray(value) || value.length === 0 || !value.every((n) => Number.isInteger(n) && n > 0 && n <= 1e6)) {
      this.refuse(field, "a list of whole numbers");
    }
    return value as readonly number[];
  }

  /** One of the values that Easel knows. */
  oneOf<const T extends readonly (string | number | boolean)[]>(
    field: string,
    known: T,
    fallback?: T[number],
  ): T[number] {
    const value = this.#values[field] ?? fallback;
    if (!(known as readonly unknown[]).includes(value)) {
      this.refuse(field, `one of ${known.map((k) => JSON.stringify(k)).join(", ")}`);
    }
    return value as T[number];
  }

  /** @throws ModelInvalidError naming the field and what Easel can honour there. */
  refuse(field: string, expected: string): never {
    throw new ModelInvalidError(
      `The model's ${this.#label} has "${field}": ${JSON.stringify(this.#values[field])}, but Easel needs ${expected}.`,
    );
  }
}
