/**
 * The names that ESRGAN's authors gave RRDBNet's layers in 2018, by their places in PyTorch's containers, and those of BasicSR,
 * which Real-ESRGAN and Easel use. Many networks that people share keep the older ones.
 */
import type { TensorLocation } from "./tensor-location.ts";

const layers: Record<string, string> = {
  "model.0": "conv_first",
  "model.3": "conv_up1",
  "model.6": "conv_up2",
  "model.8": "conv_hr",
  "model.10": "conv_last",
};

/** The tensors under BasicSR's names; unchanged where not all of them have one, as in networks that grow otherwise than twice by two. */
export function withoutEsrganNames(stored: ReadonlyMap<string, TensorLocation>): ReadonlyMap<string, TensorLocation> {
  const renamed = new Map<string, TensorLocation>();
  for (const tensor of stored.values()) {
    const name = basicSrName(tensor.name);
    if (name === undefined) return stored;
    renamed.set(name, { ...tensor, name });
  }
  return renamed;
}

function basicSrName(name: string): string | undefined {
  const [, layer, kind] = /^(model\..+)\.(weight|bias)$/.exec(name) ?? [];
  if (layer === undefined) return undefined;
  const dense = /^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0$/.exec(layer);
  if (dense !== null) return `body.${dense[1]}.rdb${dense[2]}.conv${dense[3]}.${kind}`;
  // What follows the last block.
  const known = /^model\.1\.sub\.\d+$/.test(layer) ? "conv_body" : layers[layer];
  return known && `${known}.${kind}`;
}
