import { expect, test } from "vitest";
import { readFixtureTensors } from "../../tests/oracle-fixtures.ts";
import { lanczos } from "./lanczos.ts";

const { source, ...recorded } = readFixtureTensors("upscalers/lanczos.safetensors");
const asPicture = ({ data, dims }: NonNullable<typeof source>) => {
  const [height, width] = dims as [number, number];
  return { width, height, pixels: Uint8Array.from(data) };
};

test.each(Object.keys(recorded))("a picture of 13x9 becomes Pillow's of %s, bit for bit", (size) => {
  const expected = asPicture(recorded[size]!);
  expect(lanczos(asPicture(source!), expected.width, expected.height)).toEqual(expected);
});

test("one channel becomes what three equal ones do", () => {
  const grey = { width: 5, height: 4, pixels: Uint8Array.from({ length: 20 }, (_, i) => (i * 83) % 256) };
  const colour = { ...grey, pixels: Uint8Array.from({ length: 60 }, (_, i) => grey.pixels[Math.floor(i / 3)]!) };
  const [large, largeColour] = [lanczos(grey, 15, 8), lanczos(colour, 15, 8)];
  expect(large.pixels).toHaveLength(120);
  expect([...large.pixels]).toEqual([...largeColour.pixels].filter((_, i) => i % 3 === 0));
});
