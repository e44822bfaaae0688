/** A file with the names and shapes of RealESRGAN_x4plus and random values: as slow as the real one, and it draws noise. */
import { writeFileSync } from "node:fs";

const [features, grown, blocks] = [64, 32, 23];

export function writeRandomRrdb(file: string): void {
  const shapes = Object.fromEntries(
    convolutions().flatMap(([name, outputs, inputs]) => [
      [`${name}.weight`, [outputs, inputs, 3, 3]],
      [`${name}.bias`, [outputs]],
    ]),
  );
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const start = end;
    end += 4 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: "F32", shape, data_offsets: [start, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  // So small that no layer makes its input larger.
  const values = Float32Array.from({ length: end / 4 }, () => (2 * Math.random() - 1) / 64);
  writeFileSync(file, Buffer.concat([length, json, Buffer.from(values.buffer)]));
}

/** Name, outputs, inputs. */
function convolutions(): [string, number, number][] {
  const dense = Array.from({ length: 3 * blocks }, (_, i) => `body.${Math.floor(i / 3)}.rdb${(i % 3) + 1}`);
  return [
    ["conv_first", features, 3],
    ...dense.flatMap((name): [string, number, number][] => [
      ...[1, 2, 3, 4].map((i): [string, number, number] => [`${name}.conv${i}`, grown, features + (i - 1) * grown]),
      [`${name}.conv5`, features, features + 4 * grown],
    ]),
    ...["conv_body", "conv_up1", "conv_up2", "conv_hr"].map((name): [string, number, number] => [
      name,
      features,
      features,
    ]),
    ["conv_last", 3, features],
  ];
}
