/** The tensors of FLUX.1-dev's parts in the single files that stable-diffusion.cpp reads, by Black Forest Labs' names. */
import type { GgufType, RandomTensor } from "./random-gguf.ts";

const hidden = 3072;
const headDim = 128;

/** The transformer; its linear layers in `type`, everything else in float32. */
export function transformerTensors(doubleBlocks: number, singleBlocks: number, type: GgufType): RandomTensor[] {
  const linear = linearIn(type);
  const tensors = [
    ...linear("img_in", hidden, 64),
    ...linear("txt_in", hidden, 4096),
    ...["time_in", "guidance_in"].flatMap((name) => embedder(name, 256)),
    ...embedder("vector_in", 768),
    ...linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden),
    ...linear("final_layer.linear", 64, hidden),
  ];
  for (let i = 0; i < doubleBlocks; i++) {
    for (const stream of [`double_blocks.${i}.img`, `double_blocks.${i}.txt`]) {
      tensors.push(
        ...linear(`${stream}_mod.lin`, 6 * hidden, hidden),
        ...linear(`${stream}_attn.qkv`, 3 * hidden, hidden),
        ...headNorms(`${stream}_attn.norm`),
        ...linear(`${stream}_attn.proj`, hidden, hidden),
        ...linear(`${stream}_mlp.0`, 4 * hidden, hidden),
        ...linear(`${stream}_mlp.2`, hidden, 4 * hidden),
      );
    }
  }
  for (let i = 0; i < singleBlocks; i++) {
    const block = `single_blocks.${i}`;
    tensors.push(
      ...linear(`${block}.modulation.lin`, 3 * hidden, hidden),
      ...linear(`${block}.linear1`, 7 * hidden, hidden),
      ...headNorms(`${block}.norm`),
      ...linear(`${block}.linear2`, hidden, 5 * hidden),
    );
  }
  return tensors;

  function embedder(name: string, inFeatures: number): RandomTensor[] {
    return [...linear(`${name}.in_layer`, hidden, inFeatures), ...linear(`${name}.out_layer`, hidden, hidden)];
  }
}

function headNorms(name: string): RandomTensor[] {
  return ["query_norm", "key_norm"].map((norm) => ({
    name: `${name}.${norm}.scale`,
    shape: [headDim],
    type: "float32",
  }));
}

function linearIn(type: GgufType) {
  return (name: string, outFeatures: number, inFeatures: number): RandomTensor[] => [
    { name: `${name}.weight`, shape: [outFeatures, inFeatures], type },
    { name: `${name}.bias`, shape: [outFeatures], type: "float32" },
  ];
}

/** CLIP-L's text encoder. */
export function clipTensors(): RandomTensor[] {
  const width = 768;
  const linear = linearIn("float16");
  const norm = (name: string) => affine(name, width);
  return [
    { name: "text_model.embeddings.token_embedding.weight", shape: [49408, width], type: "float16" },
    { name: "text_model.embeddings.position_embedding.weight", shape: [77, width], type: "float32" },
    ...Array.from({ length: 12 }, (_, i) => `text_model.encoder.layers.${i}`).flatMap((layer) => [
      ...norm(`${layer}.layer_norm1`),
      ...["q_proj", "k_proj", "v_proj", "out_proj"].flatMap((name) =>
        linear(`${layer}.self_attn.${name}`, width, width),
      ),
      ...norm(`${layer}.layer_norm2`),
      ...linear(`${layer}.mlp.fc1`, 4 * width, width),
      ...linear(`${layer}.mlp.fc2`, width, 4 * width),
    ]),
    ...norm("text_model.final_layer_norm"),
  ];
}

/** The autoencoder. stable-diffusion.cpp refuses a decoder without its encoder. */
export function autoencoderTensors(): RandomTensor[] {
  const channels = [128, 256, 512, 512];
  const [bottom, top] = [channels[0]!, channels.at(-1)!];
  const tensors = [
    ...conv("encoder.conv_in", bottom, 3, 3),
    ...middle("encoder.mid", top),
    ...affine("encoder.norm_out", top),
    ...conv("encoder.conv_out", 2 * 16, top, 3),
    ...conv("decoder.conv_in", top, 16, 3),
    ...middle("decoder.mid", top),
    ...affine("decoder.norm_out", bottom),
    ...conv("decoder.conv_out", 3, bottom, 3),
  ];
  for (const [level, width] of channels.entries()) {
    const down = `encoder.down.${level}`;
    tensors.push(
      ...residual(`${down}.block.0`, width, channels[level - 1] ?? bottom),
      ...residual(`${down}.block.1`, width, width),
      ...(level === channels.length - 1 ? [] : conv(`${down}.downsample.conv`, width, width, 3)),
    );
    const up = `decoder.up.${level}`;
    tensors.push(
      ...residual(`${up}.block.0`, width, channels[level + 1] ?? top),
      ...residual(`${up}.block.1`, width, width),
      ...residual(`${up}.block.2`, width, width),
      ...(level === 0 ? [] : conv(`${up}.upsample.conv`, width, width, 3)),
    );
  }
  return tensors;
}

function middle(name: string, width: number): RandomTensor[] {
  return [
    ...residual(`${name}.block_1`, width, width),
    ...affine(`${name}.attn_1.norm`, width),
    ...["q", "k", "v", "proj_out"].flatMap((part) => conv(`${name}.attn_1.${part}`, width, width, 1)),
    ...residual(`${name}.block_2`, width, width),
  ];
}

function residual(name: string, outChannels: number, inChannels: number): RandomTensor[] {
  return [
    ...affine(`${name}.norm1`, inChannels),
    ...conv(`${name}.conv1`, outChannels, inChannels, 3),
    ...affine(`${name}.norm2`, outChannels),
    ...conv(`${name}.conv2`, outChannels, outChannels, 3),
    ...(outChannels === inChannels ? [] : conv(`${name}.nin_shortcut`, outChannels, inChannels, 1)),
  ];
}

function conv(name: string, outChannels: number, inChannels: number, size: number): RandomTensor[] {
  return [
    { name: `${name}.weight`, shape: [outChannels, inChannels, size, size], type: "float16" },
    { name: `${name}.bias`, shape: [outChannels], type: "float32" },
  ];
}

function affine(name: string, channels: number): RandomTensor[] {
  return ["weight", "bias"].map((part) => ({ name: `${name}.${part}`, shape: [channels], type: "float32" }));
}
