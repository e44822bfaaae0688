/** The networks that ship, on pictures that they have never seen: they have to be worth their time. */
import { describe, expect, test } from "vitest";
import sharp from "sharp";
import { Enlarger } from "../src/engine/enlarger.ts";
import { UpscalerCatalog } from "../src/engine/upscaler-catalog.ts";
import { psnr } from "./oracle-fixtures.ts";

const side = 256;

/** Curves, thin lines and a gradient: what drawings are made of. */
const drawing = `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}">
  <linearGradient id="sky" x2="0" y2="1"><stop stop-color="#8ecdf5"/><stop offset="1" stop-color="#fff3d6"/></linearGradient>
  <rect width="256" height="256" fill="url(#sky)"/>
  <circle cx="196" cy="56" r="27" fill="#ffd23f"/>
  <path d="M0 170 Q60 90 128 168 T256 150 V256 H0 Z" fill="#3d8b52"/>
  <path d="M70 210 L70 140 L110 104 L150 140 L150 210 Z" fill="#c8473c" stroke="#472420" stroke-width="4"/>
  <rect x="98" y="160" width="25" height="50" fill="#472420"/>
  <g stroke="#fff" stroke-width="3"><path d="M82 150 h22 M82 158 h22 M200 120 l34 -18 M200 130 l34 -18"/></g>
  <g fill="none" stroke="#20324d" stroke-width="2.5"><circle cx="190" cy="205" r="29"/><circle cx="190" cy="205" r="17"/></g>
</svg>`;

describe("easel-upscale", () => {
  // Measured: 6.7 and 2.8 dB. An untrained network of this kind is an interpolation, at 0.
  test.each([
    [2, 5],
    [4, 2],
  ] as const)(
    "brings back a drawing that was reduced by %i at least %f dB better than Lanczos' filter",
    async (factor, least) => {
      const truth = await sharp(Buffer.from(drawing)).removeAlpha().raw().toBuffer();
      const small = side / factor;
      const pixels = await sharp(truth, { raw: { width: side, height: side, channels: 3 } })
        .resize(small, small, { kernel: "cubic" })
        .raw()
        .toBuffer();
      const picture = { image: { width: small, height: small, pixels }, alpha: undefined };
      const scoreOf = async (name: string) => {
        const upscaler = await new UpscalerCatalog({}).resolve(name, factor);
        const { image } = await new Enlarger().enlarge(picture, { factor, upscaler }, { threads: 1 });
        return psnr(image.pixels, truth);
      };
      const [network, filter] = [await scoreOf("easel-upscale"), await scoreOf("lanczos3")];
      expect(network - filter, `${network.toFixed(2)} against ${filter.toFixed(2)} dB`).toBeGreaterThan(least);
    },
  );
});
