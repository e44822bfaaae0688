/** Pictures to send, and the forms they are sent in. */
import sharp, { type Sharp } from "sharp";

export type Field = string | Uint8Array | Field[];

/** A form; a list becomes a repeated field. */
export function form(fields: Record<string, Field>): FormData {
  const data = new FormData();
  const append = (name: string, value: Field): void => {
    if (Array.isArray(value)) for (const each of value) append(name, each);
    else if (typeof value === "string") data.append(name, value);
    else data.append(name, new Blob([new Uint8Array(value)], { type: "image/png" }), `${name}.png`);
  };
  for (const [name, value] of Object.entries(fields)) append(name, value);
  return data;
}

export function noise(width: number, height: number): Sharp {
  const grain = { type: "gaussian", mean: 128, sigma: 40 } as const;
  return sharp({ create: { width, height, channels: 3, background: "#888", noise: grain } });
}

export async function leftHalfTransparent(picture: Sharp, width: number, height: number): Promise<Buffer> {
  const alpha = Buffer.from(Uint8Array.from({ length: width * height }, (_, i) => (i % width < width / 2 ? 0 : 255)));
  const opaque = await picture.raw().toBuffer();
  return await sharp(opaque, { raw: { width, height, channels: 3 } })
    .joinChannel(alpha, { raw: { width, height, channels: 1 } })
    .png()
    .toBuffer();
}
