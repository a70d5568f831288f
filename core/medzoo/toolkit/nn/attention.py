"""Cross-attention of a diffusers U-Net to label tokens, recorded during sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@torch.inference_mode()
def recorded_attention(unet: Any, sample: Callable[[], Tensor], *, count: int) -> tuple[Tensor, Tensor]:
    """Return what `sample()` gives by calling `unet`, and its attention to each token, as `protocols.AttentionMaps`.

    The first `count` rows of each batch are recorded: under classifier-free guidance the labeled ones.
    Maps are float32 (count, tokens, h, w) and sum to 1 over tokens.
    """
    kept = unet.attn_processors
    recorders = {name: _Recorder(processor, count=count) for name, processor in kept.items()}
    unet.set_attn_processor(dict(recorders))
    try:
        samples = sample()
    finally:
        unet.set_attn_processor(dict(kept))
    maps = [recorder.map() for recorder in recorders.values() if recorder.calls]
    side = max(own.shape[-1] for own in maps)
    # interpolation treats all tokens alike, so their weights still sum to 1
    same = [functional.interpolate(own, size=(side, side), mode="bilinear") for own in maps]
    return samples, torch.stack(same).mean(dim=0)


class _Recorder:
    """An attention processor that wraps another and sums the softmax weights of cross-attention."""

    def __init__(self, processor: Any, *, count: int) -> None:
        self.processor = processor
        self.count = count
        self.calls = 0
        self._total: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the wrapped processor's output; diffusers fixes these arguments."""
        if encoder_hidden_states is not None:
            queries, keys = attn.to_q(hidden_states[: self.count]), attn.to_k(encoder_hidden_states[: self.count])
            queries, keys = (attn.head_to_batch_dim(part.float()) for part in (queries, keys))
            weights = attn.get_attention_scores(queries, keys).unflatten(0, (-1, attn.heads)).mean(dim=1)
            self._total = weights if self._total is None else self._total + weights
            self.calls += 1
        output: Tensor = self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return output

    def map(self) -> Tensor:
        """Return the mean weights over heads and calls, (N, tokens, side, side)."""
        assert self._total is not None  # only called recorders are asked
        mean = (self._total / self.calls).transpose(1, 2)
        side = math.isqrt(mean.shape[-1])
        return mean.reshape(*mean.shape[:2], side, side)
