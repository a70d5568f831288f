"""The checks of what a generator shows of its labels, for `medzoo inspect`; they apply to those that show it."""

from __future__ import annotations

import torch
from torch import Tensor

from medzoo.protocols import AttentionMaps, LabelTokens
from medzoo.testing.contract import ContractError, expect
from medzoo.testing.generator_subject import GeneratorSubject
from medzoo.testing.model_subject import ATOL


def label_tokens(subject: GeneratorSubject) -> str | None:
    """Check `LabelTokens` and describe the outcome in one line; None for a generator without them."""
    generator = subject.model
    if not isinstance(generator, LabelTokens):
        return None
    labels = subject.class_labels
    tokens = _tokens(generator, labels)
    backwards = _tokens(generator, labels.flip(0)).flip(0)
    expect(torch.allclose(tokens, backwards, atol=ATOL), "the tokens of a label depend on the labels beside it")
    apart = torch.cdist(tokens.flatten(1), tokens.flatten(1)) + torch.eye(len(labels))
    expect(bool(apart.min() > 0), "expected other tokens for another label, two are equal")
    if generator.no_label is not None:
        none = _tokens(generator, generator.no_label[None])
        expect(none.shape[1:] == tokens.shape[1:], f"expected {tuple(tokens.shape[1:])} for no label, got {none.shape}")
    return f"{tokens.shape[1]} of width {tokens.shape[2]}, float32, other ones for each label"


def attention_maps(subject: GeneratorSubject) -> str | None:
    """Check `AttentionMaps` and describe the outcome in one line; None for a generator without them."""
    generator = subject.model
    if not isinstance(generator, AttentionMaps):
        return None
    before = subject.sample()
    images, maps = generator.attention_maps(subject.seeds, subject.labels.clone())
    subject.expect_images(images, count=len(subject.seeds))
    expect(torch.equal(images.cpu(), before), "expected the images that sample gives")
    expect(torch.equal(subject.sample(), before), "sample gives other images afterwards")
    tokens = _tokens(generator, subject.labels).shape[1]
    shape = (len(before), tokens)
    expect(maps.ndim == 4 and maps.shape[:2] == shape, f"expected maps {(*shape, 'h', 'w')}, got {tuple(maps.shape)}")
    expect(maps.dtype == torch.float32, f"expected float32 maps, got {maps.dtype}")
    off = (maps.sum(dim=1) - 1.0).abs().max().item()
    expect(
        bool((maps >= 0).all()) and off <= ATOL, f"expected maps that sum to 1 over tokens, they are off by {off:.2g}"
    )
    return f"maps of {maps.shape[2]} x {maps.shape[3]} that sum to 1 over {tokens} tokens, and sample's images"


def _tokens(generator: LabelTokens, labels: Tensor) -> Tensor:
    """Return the tokens of `labels` on the CPU.

    Raises: ContractError unless they are finite float32 (N, tokens, width).
    """
    tokens = generator.label_tokens(labels.clone())
    if not isinstance(tokens, Tensor):
        raise ContractError(f"expected a tensor of tokens, got {type(tokens).__name__}")
    expect(
        tokens.ndim == 3 and len(tokens) == len(labels) and 0 not in tokens.shape,
        f"expected tokens ({len(labels)}, tokens, width), got {tuple(tokens.shape)}",
    )
    expect(tokens.dtype == torch.float32, f"expected float32 tokens, got {tokens.dtype}")
    expect(bool(torch.isfinite(tokens).all()), "expected finite tokens, some numbers are not")
    return tokens.cpu()
