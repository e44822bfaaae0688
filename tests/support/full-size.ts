/** The networks of FLUX.1 at their published sizes, or at others, as names and shapes with hardly a byte of weights. */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import {
  bfloat16Bytes,
  publishedConfigs,
  safetensorsHeader,
  type Shapes,
  weightShapes,
} from "../../bench/published-flux.ts";
import { type Component, components } from "../../src/weights/single-file.ts";
import type { TensorLocation } from "../../src/weights/tensor-location.ts";
import { WeightSource } from "../../src/weights/weight-source.ts";

/** A network's tensors as bfloat16, in a file that does not exist. */
export function fullSizeSource(component: Component, changes: object = {}): WeightSource {
  const shapes = weightShapes(component, { ...publishedConfigs[component], ...changes });
  const located = [...shapes].map(([name, shape]): [string, TensorLocation] => {
    const ranges = [{ offset: 0, length: bfloat16Bytes(shape) }];
    return [name, { name, encoding: "bfloat16", shape, file: "/nowhere/weights", ranges }];
  });
  return new WeightSource(new Map(located), `full-size ${component}`);
}

/**
 * A model folder of FLUX.1-dev's size whose weight files are all holes: they take no room on the disk. Its descriptions are
 * whole, its tokenizers are those of `tokenizersFrom`.
 */
export function writeHollowModel(folder: string, tokenizersFrom: string): void {
  for (const name of ["tokenizer", "tokenizer_2", "scheduler", "model_index.json"]) {
    cpSync(join(tokenizersFrom, name), join(folder, name), { recursive: true });
  }
  for (const component of components) {
    mkdirSync(join(folder, component), { recursive: true });
    writeFileSync(join(folder, component, "config.json"), JSON.stringify(publishedConfigs[component]));
    const file = join(
      folder,
      component,
      component.startsWith("text") ? "model.safetensors" : "diffusion_pytorch_model.safetensors",
    );
    writeHollowFile(file, weightShapes(component, publishedConfigs[component]));
  }
}

function writeHollowFile(path: string, shapes: Shapes): void {
  const header = safetensorsHeader(shapes);
  writeFileSync(path, header);
  truncateSync(path, header.length + bfloat16Bytes(shapes));
}

/**
 * A copy of the tiny model whose transformer is large enough that converting it takes a second or more: 160 million weights, nearly
 * all of them zeros, in a file that is nearly all holes.
 */
export function writeSlowModel(folder: string, tinyFolder: string): void {
  cpSync(tinyFolder, folder, { recursive: true });
  const configFile = join(folder, "transformer", "config.json");
  const config = {
    ...(JSON.parse(readFileSync(configFile, "utf8")) as object),
    attention_head_dim: 128,
    num_attention_heads: 12,
    axes_dims_rope: [16, 56, 56],
    num_layers: 1,
    num_single_layers: 2,
  };
  writeFileSync(configFile, JSON.stringify(config));
  const file = join(folder, "transformer", "diffusion_pytorch_model.safetensors");
  rmSync(file);
  const shapes = weightShapes("transformer", config);
  writeHollowFile(file, shapes);
  const bytes = bfloat16Bytes(shapes);
  // Something to get wrong here and there: numbers around one, of either sign.
  const numbers = Uint16Array.from({ length: 4096 }, (_, i) => 0x3f00 + ((i * 97) % 256) + (i % 3 === 0 ? 0x8000 : 0));
  const fd = openSync(file, "r+");
  for (let place = 1; place < 16; place++) writeSync(fd, numbers, 0, undefined, 2 * Math.floor((place * bytes) / 32));
  closeSync(fd);
}
