"""Where a model's cross-attention attends to the tokens of a label, in images it samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from medzoo.data.pixels import to_uint8
from medzoo.generation.plan import file_safe, make_plan
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import AttentionMaps, Generator
from medzoo.runs.progress import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class SampledAttention:
    """Images with the attention paid to each label token; image i is of class `labels[i]`.

    `images` is uint8 (N, C, H, W), `maps` float32 (N, tokens, h, w), which sum to 1 over tokens.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    images: np.ndarray
    maps: np.ndarray


def sample_attention(
    model: LoadedModel[Generator], labels: Sequence[str], *, count: int, seed: int, progress: Progress = no_progress
) -> SampledAttention | None:
    """Sample `count` images of each label, those `medzoo sample` draws from `seed`, with their attention maps.

    `progress` receives the number of images sampled so far. Return None for a model without cross-attention.
    """
    if not isinstance(model.model, AttentionMaps):
        return None
    plan = make_plan(
        dict.fromkeys(labels, count),
        names=(file_safe(model.name),),
        shares=(Fraction(1),),
        batch_size=count,
        seed=seed,
    )
    planned = list(plan.images())
    images: list[np.ndarray] = []
    maps: list[Tensor] = []
    for index, label in enumerate(labels):
        progress(index * count, len(planned))
        seeds = [plan.seed_of(image) for image in planned if image.label == label]
        sampled, attention = model.model.attention_maps(seeds, label_tensor(model.image, [label] * count))
        images.append(to_uint8(sampled))
        maps.append(attention.cpu())
    progress(len(planned), len(planned))
    return SampledAttention(
        labels=tuple(image.label for image in planned),
        seeds=tuple(map(plan.seed_of, planned)),
        images=np.concatenate(images),
        maps=torch.cat(maps).numpy(),
    )
