"""Makes tests/fixtures/formats: small checkpoints in the namings and encodings that FLUX is published in, and what gguf-py,
torch, diffusers and PEFT make of them. Deterministic, CPU. Needs tests/fixtures/flux-*-tiny (make_fixtures.py).

    venv/bin/python tests/oracle/make_format_fixtures.py [blocks fp8 names transformer autoencoder t5 loras]
"""

import inspect
import json
import sys
from pathlib import Path

import diffusers
import gguf
import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.loaders import lora_conversion_utils, lora_pipeline, single_file_utils
from peft import LoraConfig
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
FORMATS = FIXTURES / "formats"
DEV = FIXTURES / "flux-dev-tiny"
SCHNELL = FIXTURES / "flux-schnell-tiny"
FULL_WIDTH, DEV_WIDTH, SCHNELL_WIDTH = 3072, 32, 36

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()

Weights = dict[str, torch.Tensor]


def at_width(function, width: int):
    """diffusers' converters have FLUX.1's width written into them; the same code for a tiny model."""
    source = inspect.getsource(function).replace("12288", str(4 * width)).replace("3072", str(width))
    namespace = dict(vars(inspect.getmodule(function)))
    exec(source, namespace)
    return namespace[function.__name__]


def load_folder(folder: Path) -> Weights:
    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


def same(actual: Weights, expected: Weights) -> None:
    assert actual.keys() == expected.keys(), sorted(actual.keys() ^ expected.keys())
    assert all(torch.equal(actual[k], expected[k]) for k in expected)


# ---------------------------------------------------------------- encodings

def make_blocks() -> None:
    """blocks.gguf: one tensor [5, 512] of each type; blocks.safetensors: its values by gguf-py. The types that gguf-py can
    quantize hold normal numbers; the others random bits under sane scales, so that every bit of a block counts."""
    rng = np.random.default_rng(1)
    types = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K".split()
    half_offsets = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
    writer = gguf.GGUFWriter(FORMATS / "blocks.gguf", "flux")
    # What readers must step over on their way to the tensors.
    writer.add_uint32("easel.number", 7)
    writer.add_array("easel.texts", ["a", "bc", ""])
    writer.add_array("easel.numbers", [1.5, 2.5])
    writer.add_bool("easel.flag", True)
    expected = {}
    for name in types:
        qtype = gguf.GGMLQuantizationType[name]
        values = rng.standard_normal((5, 512)).astype(np.float32)
        if name in half_offsets:
            size = gguf.GGML_QUANT_SIZES[qtype][1]
            data = rng.integers(0, 256, (5, 2, size), dtype=np.uint8)
            for at in half_offsets[name]:
                halves = (rng.standard_normal((5, 2, 1)) * 0.02).astype(np.float16)
                data[:, :, at : at + 2] = halves.view(np.uint8)
            data = data.reshape(5, 2 * size)
        else:
            data = gguf.quants.quantize(values, qtype)
        writer.add_tensor(name, data, raw_dtype=qtype)
        expected[name] = torch.from_numpy(gguf.quants.dequantize(data, qtype).astype(np.float32).reshape(5, 512))
        assert expected[name].isfinite().all()
    close(writer)
    save_file(expected, FORMATS / "blocks.safetensors")


def close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_fp8() -> None:
    """small-floats.safetensors: every code of both 8-bit types and of float16, and torch's values for them."""
    codes = torch.arange(256, dtype=torch.uint8)
    halves = torch.arange(-32768, 32768, dtype=torch.int16).view(torch.float16)
    tensors = {"e4m3": codes.view(torch.float8_e4m3fn), "e5m2": codes.clone().view(torch.float8_e5m2),
               "bf16": halves.view(torch.bfloat16)[::64].contiguous(), "f16": halves[::64].contiguous()}
    save_file({**tensors, **{f"{k}.float32": v.to(torch.float32) for k, v in tensors.items()}},
              FORMATS / "small-floats.safetensors")


# ---------------------------------------------------------------- names

def to_bfl(weights: Weights) -> Weights:
    """Black Forest Labs' names for a diffusers transformer. Checked by diffusers' own converter wherever it is used."""
    bfl = {}
    take = dict(weights)

    def put(name: str, *sources: str, suffixes=("weight", "bias"), swap: bool = False) -> None:
        for suffix in suffixes:
            if f"{sources[0]}.{suffix}" not in take:
                continue
            parts = [take.pop(f"{source}.{suffix}") for source in sources]
            whole = torch.cat(parts)
            if swap:
                whole = torch.cat(whole.chunk(2)[::-1])
            bfl[f"{name}.{'scale' if 'norm' in name and '_norm' in name else suffix}"] = whole.contiguous()

    embed = "time_text_embed"
    put("img_in", "x_embedder")
    put("txt_in", "context_embedder")
    for ours, theirs in [("timestep", "time"), ("guidance", "guidance"), ("text", "vector")]:
        put(f"{theirs}_in.in_layer", f"{embed}.{ours}_embedder.linear_1")
        put(f"{theirs}_in.out_layer", f"{embed}.{ours}_embedder.linear_2")
    for i in sorted({int(k.split(".")[1]) for k in weights if k.startswith("transformer_blocks.")}):
        b, d = f"transformer_blocks.{i}", f"double_blocks.{i}"
        for side, mod, to, out, ff, norm in [("img", "norm1", "to_{}", "to_out.0", "ff", "norm_{}"),
                                            ("txt", "norm1_context", "add_{}_proj", "to_add_out", "ff_context",
                                             "norm_added_{}")]:
            put(f"{d}.{side}_mod.lin", f"{b}.{mod}.linear")
            put(f"{d}.{side}_attn.qkv", *[f"{b}.attn.{to.format(x)}" for x in "qkv"])
            put(f"{d}.{side}_attn.norm.query_norm", f"{b}.attn.{norm.format('q')}")
            put(f"{d}.{side}_attn.norm.key_norm", f"{b}.attn.{norm.format('k')}")
            put(f"{d}.{side}_attn.proj", f"{b}.attn.{out}")
            put(f"{d}.{side}_mlp.0", f"{b}.{ff}.net.0.proj")
            put(f"{d}.{side}_mlp.2", f"{b}.{ff}.net.2")
    for i in sorted({int(k.split(".")[1]) for k in weights if k.startswith("single_transformer_blocks.")}):
        b, s = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        put(f"{s}.modulation.lin", f"{b}.norm.linear")
        put(f"{s}.linear1", *[f"{b}.attn.to_{x}" for x in "qkv"], f"{b}.proj_mlp")
        put(f"{s}.norm.query_norm", f"{b}.attn.norm_q")
        put(f"{s}.norm.key_norm", f"{b}.attn.norm_k")
        put(f"{s}.linear2", f"{b}.proj_out")
    put("final_layer.linear", "proj_out")
    put("final_layer.adaLN_modulation.1", "norm_out.linear", swap=True)
    assert not take, list(take)
    return bfl


def from_bfl(weights: Weights, width: int) -> Weights:
    convert = at_width(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers, width)
    return convert(dict(weights))


def make_names() -> None:
    """bfl-names.json: a checkpoint of FLUX.1-dev's row counts (three double and two single blocks, one column) whose values
    number its rows; for each of diffusers' tensors, which rows of which tensor diffusers' unchanged converter makes it of:
    {source: {name: rows}, target: {name: [[source, first row, rows], …]}}."""
    tiny = to_bfl(load_folder(DEV / "transformer"))
    blocks = {"double_blocks": 3, "single_blocks": 2}
    source = {}
    for name, tensor in tiny.items():
        head, _, rest = name.partition(".")
        if rest.startswith("1.") or rest.startswith("2."):
            continue
        rows = tensor.shape[0]
        if name not in ("final_layer.linear.weight", "final_layer.linear.bias"):
            rows = 128 if name.endswith(".scale") else rows // DEV_WIDTH * FULL_WIDTH
        for i in range(blocks.get(head, 1)):
            source[name.replace(f"{head}.0.", f"{head}.{i}.") if head in blocks else name] = rows
    ids = list(source)
    numbered = {name: (torch.arange(rows, dtype=torch.int64) + (i << 20))[:, None] for i, (name, rows) in enumerate(source.items())}
    target = {}
    for name, tensor in single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(numbered).items():
        runs = []
        for value in tensor[:, 0].tolist():
            origin, row = ids[value >> 20], value & 0xFFFFF
            if runs and runs[-1][0] == origin and runs[-1][1] + runs[-1][2] == row:
                runs[-1][2] += 1
            else:
                runs.append([origin, row, 1])
        target[name] = runs
    (FORMATS / "bfl-names.json").write_text(json.dumps({"source": source, "target": target}, indent=0) + "\n")


# ---------------------------------------------------------------- whole files

# Enough to see every kind of slice and every encoding; the rest of the files is as they are published.
RECORDED = ["x_embedder.weight", "norm_out.linear.weight", "norm_out.linear.bias", "transformer_blocks.1.attn.to_k.weight",
            "transformer_blocks.1.attn.add_v_proj.weight", "transformer_blocks.0.attn.to_q.bias",
            "transformer_blocks.0.ff.net.2.weight", "transformer_blocks.1.attn.norm_added_k.weight",
            "single_transformer_blocks.2.attn.to_v.weight", "single_transformer_blocks.2.proj_mlp.weight",
            "single_transformer_blocks.0.proj_out.weight", "time_text_embed.guidance_embedder.linear_1.weight"]


def make_transformer() -> None:
    """bfl.safetensors: schnell-tiny's transformer in Black Forest Labs' naming, bf16 as published.
    bfl-fp8-scaled.safetensors: dev-tiny's as ComfyUI has it, 8-bit with a scale beside each weight; and flux.gguf: dev-tiny's
    as city96 publishes it. Their values under diffusers' names: <file>.expected.safetensors."""
    schnell = load_folder(SCHNELL / "transformer")
    bfl = to_bfl(schnell)
    same(from_bfl(bfl, SCHNELL_WIDTH), schnell)
    save_file(bfl, FORMATS / "bfl.safetensors")

    dev = load_folder(DEV / "transformer")
    bfl = {k: v.to(torch.float32) for k, v in to_bfl(dev).items()}
    same(from_bfl(bfl, DEV_WIDTH), {k: v.to(torch.float32) for k, v in dev.items()})

    stored, values = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, {}
    for name, tensor in bfl.items():
        if tensor.ndim == 2 and "_in." not in name:
            scale = tensor.abs().max() / 448
            stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
            stored[name.replace(".weight", ".scale_weight")] = scale
            values[name] = stored[name].to(torch.float32) * scale
        else:
            stored[name] = tensor.to(torch.bfloat16)
            values[name] = stored[name].to(torch.float32)
    save_file({f"model.diffusion_model.{k}": v for k, v in stored.items()}, FORMATS / "bfl-fp8-scaled.safetensors")
    save_expected("bfl-fp8-scaled", values)

    writer = gguf.GGUFWriter(FORMATS / "flux.gguf", "flux")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    values = {}
    types = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "BF16", "F16"]
    for i, (name, tensor) in enumerate(bfl.items()):
        qtype = gguf.GGMLQuantizationType["F32" if tensor.ndim == 1 else types[i % 7]]
        if tensor.shape[-1] % 32 != 0:
            qtype = gguf.GGMLQuantizationType.F16
        data = gguf.quants.quantize(tensor.numpy(), qtype)
        writer.add_tensor(name, data, raw_dtype=qtype)
        decoded = gguf.quants.dequantize(data, qtype).astype(np.float32)
        values[name] = torch.from_numpy(decoded.reshape(tensor.shape))
    close(writer)
    save_expected("flux", values)


def save_expected(file: str, bfl_values: Weights) -> None:
    converted = from_bfl(bfl_values, DEV_WIDTH)
    save_file({k: converted[k].contiguous() for k in RECORDED}, FORMATS / f"{file}.expected.safetensors")


def make_autoencoder() -> None:
    """ae.safetensors: dev-tiny's autoencoder in Black Forest Labs' naming, attention as 1x1 convolutions."""
    weights = load_folder(DEV / "vae")
    levels = 4
    renames = [("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
               ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
               ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"), ("mid_block.attentions.0.to_", "mid.attn_1."),
               ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"), ("resnets", "block"),
               ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample")]
    renames += [(f"down_blocks.{i}", f"down.{i}") for i in range(levels)]
    renames += [(f"up_blocks.{i}", f"up.{levels - 1 - i}") for i in range(levels)]
    stored = {}
    for name, tensor in weights.items():
        for ours, theirs in renames:
            name = name.replace(ours, theirs)
        stored[name] = tensor[:, :, None, None].contiguous() if "attn_1" in name and tensor.ndim == 2 else tensor
    config = json.loads((DEV / "vae" / "config.json").read_text())
    same(single_file_utils.convert_ldm_vae_checkpoint(dict(stored), config), weights)
    save_file(stored, FORMATS / "ae.safetensors")


def make_t5() -> None:
    """t5.gguf: dev-tiny's T5 encoder by llama.cpp's names, which gguf-py's own table gives."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    writer = gguf.GGUFWriter(FORMATS / "t5.gguf", "t5encoder")
    for name, tensor in load_folder(DEV / "text_encoder_2").items():
        if name == "encoder.embed_tokens.weight":
            continue
        renamed = names.get_name(name, try_suffixes=(".weight",))
        assert renamed, name
        writer.add_tensor(renamed, tensor.to(torch.float32).numpy())
    close(writer)


# ---------------------------------------------------------------- LoRA

def dev_pipeline() -> FluxPipeline:
    pipe = FluxPipeline.from_pretrained(DEV, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_loras() -> None:
    """lora-<naming>.safetensors, changing dev-tiny; lora-<naming>.fused.safetensors: the changed weights after diffusers'
    load_lora_weights and fuse_lora at scale 0.7, as <component>/<tensor>; lora-both.png: a picture with diffusers' naming
    at 0.7 and kohya's at -0.5, of the parameters in lora-both.json.

    Left out because diffusers 0.42 leaves them out itself: kohya's layers outside the blocks, and CLIP's attention."""
    # The same code, for the width of the tiny model.
    convert = at_width(lora_conversion_utils._convert_kohya_flux_lora_to_diffusers, DEV_WIDTH)
    lora_pipeline._convert_kohya_flux_lora_to_diffusers = convert
    generator = torch.Generator().manual_seed(9)
    randn = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731

    pipe = dev_pipeline()
    pipe.transformer.add_adapter(LoraConfig(
        r=4, lora_alpha=6, alpha_pattern={"transformer_blocks.1.attn.to_q": 2}, init_lora_weights=False,
        target_modules=["transformer_blocks.1.attn.to_q", "transformer_blocks.0.attn.add_k_proj",
                        "transformer_blocks.0.ff.net.0.proj", "single_transformer_blocks.2.proj_out",
                        "single_transformer_blocks.1.proj_mlp", "norm_out.linear", "x_embedder"]))
    pipe.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=3, init_lora_weights=False, target_modules=["q_proj", "fc1"]))
    for module in [pipe.transformer, pipe.text_encoder]:
        for name, parameter in module.named_parameters():
            if "lora_" in name:
                parameter.data = randn(*parameter.shape) * 0.2
    FluxPipeline.save_lora_weights(
        FORMATS, weight_name="lora-diffusers.safetensors",
        transformer_lora_layers=lora_state(pipe.transformer), text_encoder_lora_layers=lora_state(pipe.text_encoder),
        transformer_lora_adapter_metadata=adapter_settings(pipe.transformer),
        text_encoder_lora_adapter_metadata=adapter_settings(pipe.text_encoder))

    # float32, though most files are bf16: diffusers multiplies the factors by alpha / rank in their own precision.
    h = DEV_WIDTH
    layers = {"lora_unet_double_blocks_0_img_attn_qkv": (3 * h, h), "lora_unet_double_blocks_1_txt_attn_qkv": (3 * h, h),
              "lora_unet_double_blocks_1_img_mlp_2": (h, 4 * h), "lora_unet_double_blocks_0_txt_mod_lin": (6 * h, h),
              "lora_unet_single_blocks_1_linear1": (7 * h, h), "lora_unet_single_blocks_2_linear2": (h, 5 * h),
              "lora_te1_text_model_encoder_layers_0_mlp_fc2": (24, 64)}
    kohya = {}
    for i, (layer, (rows, columns)) in enumerate(layers.items()):
        rank = 3 if i % 2 else 5
        kohya[f"{layer}.lora_down.weight"] = randn(rank, columns) * 0.25
        kohya[f"{layer}.lora_up.weight"] = randn(rows, rank) * 0.25
        kohya[f"{layer}.alpha"] = torch.tensor(1.5 if i % 3 else 8.0)
    save_file(kohya, FORMATS / "lora-kohya.safetensors")

    xlabs = {}
    for layer, (rows, columns) in {"double_blocks.0.processor.qkv_lora1": (3 * h, h), "double_blocks.1.processor.qkv_lora2": (3 * h, h),
                                   "double_blocks.1.processor.proj_lora1": (h, h), "double_blocks.0.processor.proj_lora2": (h, h),
                                   }.items():
        xlabs[f"{layer}.down.weight"] = randn(2, columns) * 0.3
        xlabs[f"{layer}.up.weight"] = randn(rows, 2) * 0.3
    save_file(xlabs, FORMATS / "lora-xlabs.safetensors")

    for naming in ["diffusers", "kohya", "xlabs"]:
        pipe = dev_pipeline()
        before = state(pipe)
        pipe.load_lora_weights(FORMATS, weight_name=f"lora-{naming}.safetensors")
        pipe.fuse_lora(components=["transformer", "text_encoder"], lora_scale=0.7)
        pipe.unload_lora_weights()
        after = state(pipe)
        assert before.keys() == after.keys()
        changed = {k: v for k, v in after.items() if not torch.equal(v, before[k])}
        print(naming, len(changed), sum("text_encoder" in k for k in changed))
        save_file(changed, FORMATS / f"lora-{naming}.fused.safetensors")

    # One after the other: loading a second adapter into transformers 5's CLIP resets the first one's factors.
    pipe = dev_pipeline()
    for naming, scale in [("diffusers", 0.7), ("kohya", -0.5)]:
        pipe.load_lora_weights(FORMATS, weight_name=f"lora-{naming}.safetensors")
        pipe.fuse_lora(components=["transformer", "text_encoder"], lora_scale=scale)
        pipe.unload_lora_weights()
    case = {"prompt": "A white cat resting in Rome", "width": 64, "height": 64, "steps": 4, "guidance": 3.5, "seed": 42,
            "max_sequence_length": 64}
    image = pipe(case["prompt"], width=64, height=64, num_inference_steps=4, guidance_scale=3.5, max_sequence_length=64,
                 generator=torch.Generator("cpu").manual_seed(42)).images[0]
    plain = FIXTURES / "pictures" / "flux-dev-tiny" / "plain-0.png"
    print("picture std", np.asarray(image).std(), "differs from the plain one:", image.tobytes() != open_rgb(plain).tobytes())
    image.save(FORMATS / "lora-both.png", optimize=True)
    (FORMATS / "lora-both.json").write_text(json.dumps(case) + "\n")


def adapter_settings(module: torch.nn.Module) -> dict:
    """As diffusers' training scripts store them, but the same on every machine and run."""
    settings = module.peft_config["default"].to_dict()
    return settings | {"base_model_name_or_path": None, "target_modules": sorted(settings["target_modules"])}


def open_rgb(path: Path):
    from PIL import Image
    return Image.open(path).convert("RGB")


def lora_state(module: torch.nn.Module) -> Weights:
    from peft import get_peft_model_state_dict
    return get_peft_model_state_dict(module)


def state(pipe: FluxPipeline) -> Weights:
    return {f"{part}/{k}": v.clone() for part in ["transformer", "text_encoder"]
            for k, v in getattr(pipe, part).state_dict().items() if v.is_floating_point()}


PARTS = {"blocks": make_blocks, "fp8": make_fp8, "names": make_names, "transformer": make_transformer,
         "autoencoder": make_autoencoder, "t5": make_t5, "loras": make_loras}

if __name__ == "__main__":
    FORMATS.mkdir(exist_ok=True)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
    for path in FORMATS.iterdir():
        path.chmod(0o644)
