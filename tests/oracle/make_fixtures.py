"""Makes tests/fixtures: two tiny FLUX pipelines with random weights, and what diffusers, transformers and torch make of
them. Deterministic, CPU, float32.

    python -m venv venv && venv/bin/pip install -r tests/oracle/requirements.txt
    venv/bin/python tests/oracle/make_fixtures.py

Parts may be named to remake only these: models networks pictures conditioned tokens sigmas noise.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).parent))
from strings import BRIEF_STRINGS, ODD_STRINGS  # noqa: E402
from tiny_tokenizers import train_clip, train_t5  # noqa: E402

FIXTURES = Path(__file__).parent.parent / "fixtures"
MODELS = ["flux-dev-tiny", "flux-schnell-tiny"]

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()


# ---------------------------------------------------------------- models

def randomize(module: torch.nn.Module, seed: int, gain: float = 1.0) -> None:
    """Random weights that keep the activations alive: the variance is carried through, and nothing that a loader could
    forget (a bias, a norm's weight) is left at its neutral value."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: torch.Tensor, std: float, mean: float = 0.0) -> None:
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * std + mean)

    for name, parameter in module.named_parameters():
        is_norm = "norm" in name.split(".")[-2] or name.split(".")[-2] in ("query_norm", "key_norm")
        if parameter.ndim == 1 and is_norm and name.endswith("weight"):
            normal(parameter, 0.25, 1.0)
        elif parameter.ndim == 1:
            normal(parameter, 0.2)
        elif "relative_attention_bias" in name:
            normal(parameter, 1.0)
        elif "embedding" in name or name.startswith("shared"):
            normal(parameter, 0.7)
        else:
            normal(parameter, gain / math.sqrt(parameter[0].numel()))


def calibrate_picture(vae: AutoencoderKL, latent_std: float, seed: int) -> None:
    """Scales the decoder's last layer so that pictures use the range [-1, 1] without clipping much."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, vae.config.latent_channels, 8, 8, generator=generator) * latent_std
    with torch.no_grad():
        image = vae.decode(latents + vae.config.shift_factor, return_dict=False)[0]
        scale = 0.42 / image.std((0, 2, 3))
        conv = vae.decoder.conv_out
        conv.bias.copy_((conv.bias - image.mean((0, 2, 3))) * scale)
        conv.weight.mul_(scale[:, None, None, None])


def make_dev() -> None:
    """Like FLUX.1-dev: guidance embedding, gated T5, quick_gelu CLIP with the old end-of-text id, dynamic shifting."""
    folder = FIXTURES / "flux-dev-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    train_clip(folder / "tokenizer", merges=400, model_max_length=77, special_first=False,
               pad_token="<|endoftext|>", keep_tokenizer_json=True)
    train_t5(folder / "tokenizer_2", vocab_size=700, rule="nmt_nfkc", model_max_length=512, extra_ids=100)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer_2 = T5Tokenizer.from_pretrained(folder / "tokenizer_2")

    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=24,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,  # as published: not the tokenizer's ids
    )).eval()
    randomize(text_encoder, 11)
    text_encoder_2 = T5EncoderModel(T5Config(
        vocab_size=len(tokenizer_2) + 6, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, is_encoder_decoder=True,
    )).eval()
    randomize(text_encoder_2, 12)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=24, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    ).eval()
    randomize(transformer, 13)
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(8, 8, 16, 16), layers_per_block=2,
        latent_channels=16, norm_num_groups=4, sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159,
        use_quant_conv=False, use_post_quant_conv=False, force_upcast=True, mid_block_add_attention=True,
    ).eval()
    randomize(vae, 14)
    calibrate_picture(vae, 1.0 / 0.3611, 15)
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    # The encoder travels as float16, so that a reader of mixed precisions is tried too.
    FluxPipeline(
        scheduler=scheduler, vae=vae, text_encoder=text_encoder.to(torch.float16), tokenizer=tokenizer,
        text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, transformer=transformer,
    ).save_pretrained(folder)
    # Older folders have no tokenizer.json: vocab.json and merges.txt must do.
    tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    (folder / "tokenizer" / "tokenizer.json").unlink()


def make_schnell() -> None:
    """Like FLUX.1-schnell, and otherwise everything that dev is not."""
    folder = FIXTURES / "flux-schnell-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    train_clip(folder / "tokenizer", merges=300, model_max_length=40, special_first=True, pad_token="!",
               forgotten_bytes=bytes([0xE0, 0xE2, 0xF0]), keep_tokenizer_json=True)
    train_t5(folder / "tokenizer_2", vocab_size=500, rule="custom", model_max_length=256, extra_ids=10)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer_2 = T5Tokenizer.from_pretrained(folder / "tokenizer_2")

    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=40, hidden_act="gelu", layer_norm_eps=1e-6, projection_dim=16,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )).eval()
    randomize(text_encoder, 21)
    text_encoder_2 = T5EncoderModel(T5Config(
        vocab_size=len(tokenizer_2), d_model=24, d_kv=6, d_ff=64, num_layers=3, num_heads=2,
        relative_attention_num_buckets=16, relative_attention_max_distance=40, layer_norm_epsilon=1e-5,
        feed_forward_proj="relu",
    )).eval()
    randomize(text_encoder_2, 22)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=32, num_layers=1, num_single_layers=2, attention_head_dim=12, num_attention_heads=3,
        joint_attention_dim=24, pooled_projection_dim=32, guidance_embeds=False, axes_dims_rope=(2, 4, 6),
    ).eval()
    randomize(transformer, 23)
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(8, 16, 24), layers_per_block=1,
        latent_channels=8, norm_num_groups=8, sample_size=64, scaling_factor=0.5, shift_factor=-0.25,
        use_quant_conv=True, use_post_quant_conv=True, mid_block_add_attention=False,
    ).eval()
    randomize(vae, 24)
    calibrate_picture(vae, 1.0 / 0.5, 25)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
    transformer.to(torch.bfloat16)
    FluxPipeline(
        scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
        text_encoder_2=text_encoder_2.to(torch.bfloat16), tokenizer_2=tokenizer_2, transformer=transformer,
    ).save_pretrained(folder)
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(folder / "transformer", max_shard_size="90KB")


def load(name: str) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(FIXTURES / name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# ---------------------------------------------------------------- networks

@torch.no_grad()
def make_networks() -> None:
    """networks/<model>/<network>.safetensors: one input and one output each, batch 1, all float32 (ids too)."""
    for name in MODELS:
        pipe = load(name)
        folder = FIXTURES / "networks" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(5)
        randn = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731

        def save(network: str, **tensors: torch.Tensor) -> None:
            save_file({k: v.detach().to(torch.float32).contiguous() for k, v in tensors.items()},
                      str(folder / f"{network}.safetensors"))

        prompt = "A white cat resting in Rome, under a blue sky; yellow houses & pink flowers. " * 4
        ids = pipe.tokenizer("a white cat, resting in rome", padding="max_length", truncation=True,
                             max_length=pipe.tokenizer.model_max_length, return_tensors="pt").input_ids
        out = pipe.text_encoder(ids)
        save("text_encoder", input_ids=ids, last_hidden_state=out.last_hidden_state, pooled=out.pooler_output)

        # 200 tokens: farther apart than the relative position buckets reach.
        ids = pipe.tokenizer_2(prompt, padding="max_length", truncation=True, max_length=200,
                               return_tensors="pt").input_ids
        save("text_encoder_2", input_ids=ids, last_hidden_state=pipe.text_encoder_2(ids)[0])

        config = pipe.transformer.config
        rows, columns, text_length = 5, 7, 9
        inputs = dict(
            hidden_states=randn(1, rows * columns, config.in_channels),
            encoder_hidden_states=randn(1, text_length, config.joint_attention_dim),
            pooled_projections=randn(1, config.pooled_projection_dim),
            timestep=torch.tensor([0.7344]),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32),
            txt_ids=torch.zeros(text_length, 3),
        )
        if config.guidance_embeds:
            inputs["guidance"] = torch.tensor([3.5])
        sample = pipe.transformer(**{"guidance": None, **inputs}, return_dict=False)[0]
        save("transformer", **inputs, sample=sample)

        latents = randn(1, pipe.vae.config.latent_channels, 6, 10)
        save("vae_decoder", latents=latents, image=pipe.vae.decode(latents, return_dict=False)[0])
        image = torch.rand(1, 3, 48, 80, generator=generator) * 2 - 1
        distribution = pipe.vae.encode(image).latent_dist
        save("vae_encoder", image=image, mean=distribution.mean, logvar=distribution.logvar)


# ---------------------------------------------------------------- pictures

LONG_PROMPT = "a white cat and a black dog under a blue sky, yellow houses, green trees, " * 40

# name, then what differs from the defaults
CASES = [
    ("plain", {}),
    ("wide", {"width": 96, "height": 64, "seed": 7, "prompt": "A red car on the road"}),
    ("tall-odd", {"width": 48, "height": 80, "seed": 123456789, "steps": 3}),
    ("two", {"n": 2, "seed": 41, "prompt": "two boats on the sea"}),
    ("empty", {"prompt": "", "seed": 3}),
    ("over-long", {"prompt": LONG_PROMPT, "seed": 4}),
    ("non-latin", {"prompt": "一只白色的猫在罗马休息。 Кошка сидит 😀👩‍🚀 قطة بيضاء", "seed": 5}),
    ("one-step", {"steps": 1, "seed": 6}),
    ("many-steps", {"steps": 12, "seed": 0, "guidance": 7.5}),
    ("low-guidance", {"guidance": 1.0, "seed": 8}),
    ("short-sequence", {"max_sequence_length": 16, "seed": 9, "prompt": LONG_PROMPT}),
    ("long-sequence", {"max_sequence_length": 256, "seed": 10, "steps": 2}),
    ("true-cfg", {"negative_prompt": "a black dog, blurry", "true_cfg_scale": 3.0, "seed": 11}),
    ("large-seed", {"seed": 2**53 - 1, "width": 32, "height": 16}),
]
DEFAULTS = {
    "prompt": "A white cat resting in Rome", "negative_prompt": None, "width": 64, "height": 64, "steps": 4,
    "guidance": 3.5, "true_cfg_scale": 1.0, "max_sequence_length": 64, "seed": 42, "n": 1,
}


def draw(pipe: FluxPipeline, case: dict, **extra):
    generators = [torch.Generator("cpu").manual_seed(case["seed"] + i) for i in range(case["n"])]
    return pipe(
        case["prompt"], negative_prompt=case["negative_prompt"], true_cfg_scale=case["true_cfg_scale"],
        width=case["width"], height=case["height"], num_inference_steps=case["steps"],
        guidance_scale=case["guidance"], num_images_per_prompt=case["n"], generator=generators,
        max_sequence_length=case["max_sequence_length"], **extra,
    ).images


def make_pictures() -> None:
    """pictures/<model>/<case>-<i>.png and pictures/cases.json with all parameters. Image i of n has seed + i."""
    shutil.rmtree(FIXTURES / "pictures", ignore_errors=True)
    cases = []
    for name in MODELS:
        pipe = load(name)
        (FIXTURES / "pictures" / name).mkdir(parents=True)
        for case_name, differences in CASES:
            case = {**DEFAULTS, **differences}
            files = []
            for i, image in enumerate(draw(pipe, case)):
                pixels = np.asarray(image)
                clipped = np.mean((pixels == 0) | (pixels == 255))
                print(f"{name} {case_name} {i}: std {pixels.std():.1f} mean {pixels.mean():.1f} clipped {clipped:.3f}")
                assert pixels.std() > 25 and clipped < 0.2
                files.append(f"{name}/{case_name}-{i}.png")
                image.save(FIXTURES / "pictures" / files[-1], optimize=True)
            cases.append({"model": name, "name": case_name, "files": files, **case})
    write_json(FIXTURES / "pictures" / "cases.json", cases)


# ---------------------------------------------------------------- pictures from pictures

# name, then what differs from the defaults; all start from the "plain" picture
CONDITIONED_CASES = [
    ("image", {"strength": 0.6, "steps": 5}),
    ("weak", {"strength": 0.3, "steps": 10, "seed": 1}),
    ("full-strength", {"strength": 1.0, "seed": 2}),
    ("inpaint", {"strength": 0.8, "steps": 6, "seed": 3, "mask": True}),
    ("inpaint-full", {"strength": 1.0, "steps": 3, "seed": 4, "mask": True}),
]


def make_conditioned() -> None:
    """conditioned/<model>/<case>.png, conditioned/mask.png (white: repaint) and conditioned/cases.json."""
    shutil.rmtree(FIXTURES / "conditioned", ignore_errors=True)
    (FIXTURES / "conditioned").mkdir()
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).ellipse((12, 20, 50, 60), fill=255)
    mask.save(FIXTURES / "conditioned" / "mask.png", optimize=True)
    cases = []
    for name in MODELS:
        parts = load(name).components
        image = Image.open(FIXTURES / "pictures" / name / "plain-0.png")
        (FIXTURES / "conditioned" / name).mkdir()
        for case_name, differences in CONDITIONED_CASES:
            case = {**DEFAULTS, "prompt": "A red car on the road", "mask": False, **differences}
            pipe = (FluxInpaintPipeline if case["mask"] else FluxImg2ImgPipeline)(**parts)
            pipe.set_progress_bar_config(disable=True)
            extra = {"image": image, "strength": case["strength"], **({"mask_image": mask} if case["mask"] else {})}
            [drawn] = draw(pipe, case, **extra)
            file = f"{name}/{case_name}.png"
            drawn.save(FIXTURES / "conditioned" / file, optimize=True)
            cases.append({"model": name, "name": case_name, "file": file, **case})
    write_json(FIXTURES / "conditioned" / "cases.json", cases)


# ---------------------------------------------------------------- tokens

def make_tokens() -> None:
    """tokens.json: per model and tokenizer, the ids of each string, padded and truncated to maxLength; `length` is the
    untruncated number of ids. A case is {text} or, when the text is very long, {repeat: [text, times]}. `tight` has short
    texts at lengths that leave room for little or nothing."""
    result = {}
    for name in MODELS:
        clip = CLIPTokenizer.from_pretrained(FIXTURES / name / "tokenizer")
        t5 = T5Tokenizer.from_pretrained(FIXTURES / name / "tokenizer_2")
        result[name] = {"tokenizer": token_cases(clip, clip.model_max_length), "tokenizer_2": token_cases(t5, 64)}
    (FIXTURES / "tokens.json").write_text(compact(result), encoding="utf-8")


def token_cases(tokenizer, max_length: int) -> dict:
    cases = []
    for item in ODD_STRINGS:
        text = item[0] * item[1] if isinstance(item, tuple) else item
        padded = tokenizer([text], padding="max_length", max_length=max_length, truncation=True).input_ids[0]
        whole = tokenizer([text]).input_ids[0]
        source = {"repeat": list(item)} if isinstance(item, tuple) else {"text": item}
        cases.append({**source, "length": len(whole), "ids": padded})
    fewest = len(tokenizer([""]).input_ids[0])  # below this, transformers does not truncate at all
    tight = [
        {"text": text, "maxLength": length,
         "ids": tokenizer([text], padding="max_length", max_length=length, truncation=True).input_ids[0]}
        for text in BRIEF_STRINGS for length in (fewest, 3, 8)
    ]
    return {"maxLength": max_length, "cases": cases, "tight": tight}


# ---------------------------------------------------------------- sigmas and noise

def make_sigmas() -> None:
    """sigmas.json: the scheduler's sigmas (with the closing 0) and timesteps, as FluxPipeline asks for them."""
    configs = [
        {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
         "base_image_seq_len": 256, "max_image_seq_len": 4096},
        {"shift": 1.0, "use_dynamic_shifting": False},
        {"shift": 3.0, "use_dynamic_shifting": False},
        {"shift": 1.7, "use_dynamic_shifting": False, "shift_terminal": 0.02},
        {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024,
         "max_image_seq_len": 4096, "shift_terminal": 0.1},
        {"use_dynamic_shifting": True, "time_shift_type": "linear"},
        {"use_dynamic_shifting": True, "time_shift_type": "exponential", "base_shift": 0.3, "max_shift": 0.8},
    ]
    cases = []
    for config in configs:
        for steps in (1, 2, 4, 7, 20, 28, 50):
            if steps == 1 and "shift_terminal" in config:
                continue  # diffusers divides zero by zero there
            for sequence_length in (8, 60, 256, 1024, 4096):
                scheduler = FlowMatchEulerDiscreteScheduler(**config)
                full = scheduler.config
                mu = calculate_shift(sequence_length, full.base_image_seq_len, full.max_image_seq_len,
                                     full.base_shift, full.max_shift)
                scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
                cases.append({
                    "config": config, "steps": steps, "imageSequenceLength": sequence_length, "mu": mu,
                    "sigmas": scheduler.sigmas.tolist(),
                })
    seen, unique = set(), []
    for case in cases:  # without dynamic shifting the sequence length does not matter
        key = compact([case["config"], case["sigmas"]])
        if key not in seen:
            unique.append(case)
        seen.add(key)
    write_json(FIXTURES / "sigmas.json", unique)


def make_noise() -> None:
    """noise.safetensors: "seed/length" → torch.randn(length) of a fresh CPU generator; "seed/CxHxW" likewise, as
    diffusers draws latents of that shape. packed-latents.safetensors: the same latents before and after packing."""
    tensors = {}
    lengths = [1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 100, 625, 1000, 4096]
    seeds = [0, 1, 42, 5489, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53 - 1]
    for seed in seeds:
        for length in lengths:
            generator = torch.Generator("cpu").manual_seed(seed)
            tensors[f"{seed}/{length}"] = torch.randn(length, generator=generator, dtype=torch.float32)
    for seed, shape in [(42, (16, 8, 12)), (7, (16, 64, 64)), (3, (4, 2, 2)), (9, (1, 3, 3))]:
        generator = torch.Generator("cpu").manual_seed(seed)
        name = f"{seed}/" + "x".join(map(str, shape))
        tensors[name] = torch.randn((1, *shape), generator=generator, dtype=torch.float32)
    save_file(tensors, str(FIXTURES / "noise.safetensors"))

    latents = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    packed = FluxPipeline._pack_latents(latents, 1, 3, 6, 8)
    save_file({"latents": latents, "packed": packed}, str(FIXTURES / "packed-latents.safetensors"))


def write_json(path: Path, items: list) -> None:
    """One item per line, so that a change shows in a diff."""
    path.write_text("[\n" + ",\n".join(compact(item) for item in items) + "\n]\n", encoding="utf-8")


def compact(value) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


PARTS = {
    "models": lambda: (make_dev(), make_schnell()), "networks": make_networks, "pictures": make_pictures,
    "conditioned": make_conditioned,
    "tokens": make_tokens, "sigmas": make_sigmas, "noise": make_noise,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
    for path in FIXTURES.rglob("*.safetensors"):
        path.chmod(0o644)
