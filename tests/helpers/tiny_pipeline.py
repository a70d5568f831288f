"""Pipelines of diffusers with random weights of a few kilobytes, as a folder holds them."""

from __future__ import annotations

from pathlib import Path

import torch

_NETWORK = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4}


def make_variation_pipeline(folder: Path, *, safe: bool = True) -> Path:
    """`folder`, with a StableDiffusionImageVariationPipeline of 16 pixels."""
    from diffusers import StableDiffusionImageVariationPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionImageVariationPipeline(
            **_diffusion(),
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=8)
            ),
            feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
            safety_checker=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder, safe_serialization=safe)
    return folder


def make_text_pipeline(folder: Path) -> Path:
    """`folder`, with a StableDiffusionPipeline of 16 pixels, which makes images of words."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    letters = [*map(chr, range(33, 127))]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(
            **_diffusion(),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    **sizes,
                    vocab_size=len(numbers),
                    bos_token_id=len(numbers) - 2,
                    eos_token_id=len(numbers) - 1,
                    pad_token_id=len(numbers) - 1,
                )
            ),
            tokenizer=CLIPTokenizer(vocab=numbers, merges=[], model_max_length=77),
            feature_extractor=None,
            safety_checker=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def _diffusion() -> dict[str, object]:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    return {
        "vae": AutoencoderKL(
            **_NETWORK,
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            latent_channels=4,
        ),
        "unet": UNet2DConditionModel(
            **_NETWORK,
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            mid_block_type=None,
            cross_attention_dim=8,
            attention_head_dim=2,
        ),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
    }
