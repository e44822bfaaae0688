/** What is to be drawn, as a request: JSON where it begins with words, a form where it begins with a picture. */
import type { Call } from "./transport.ts";
import type { EditParams, GenerateParams, UpscaleParams, VariationParams } from "./types.ts";

/** Fields that the wire has and that belong to a way of asking, not to the picture. */
export type WireFields = Readonly<Record<string, string | number | boolean | undefined>>;

type Drawing = Pick<Call, "method" | "path" | "json" | "form">;

/** The route follows from what there is: no picture, a picture with words, a picture alone. */
export function drawingCall(params: GenerateParams | EditParams | VariationParams, fields: WireFields = {}): Drawing {
  if (!("image" in params)) {
    return { method: "POST", path: "/images/generations", json: toWire({ ...params, ...fields }) };
  }
  const { image, mask, ...rest } = params as EditParams;
  const path = rest.prompt === undefined ? "/images/variations" : "/images/edits";
  return { method: "POST", path, form: toForm(toWire({ ...rest, ...fields }), { image, mask }) };
}

export function upscaleCall({ image, ...rest }: UpscaleParams): Drawing {
  return { method: "POST", path: "/images/upscale", form: toForm(toWire(rest), { image }) };
}

/** Under the wire's names: guidanceScale → guidance_scale. What is undefined is left out. */
function toWire(params: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(params)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]),
  );
}

function toForm(fields: Record<string, unknown>, files: Record<string, Blob | Uint8Array | undefined>): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (Array.isArray(value)) for (const each of value) form.append(`${name}[]`, String(each));
    else form.append(name, String(value));
  }
  for (const [name, file] of Object.entries(files)) {
    if (file === undefined) continue;
    // A copy, since a view of shared memory cannot become a Blob.
    const blob = file instanceof Blob ? file : new Blob([new Uint8Array(file)]);
    form.append(name, blob, name);
  }
  return form;
}
