"""How a label reaches a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medzoo.specs import ImageSpec


class LabelEmbedding(nn.Module):
    """Turns labels into `tokens` vectors for cross-attention.

    Embedding(classes + 1, width) -> Linear -> SiLU -> Linear, read as (N, tokens, width). The last row of the table
    stands for "no label".
    """

    def __init__(self, *, classes: int, width: int = 256, hidden: int = 512, tokens: int = 8) -> None:
        super().__init__()
        self.tokens = tokens
        self.table = nn.Embedding(classes + 1, width)
        self.project = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width * tokens))

    def forward(self, labels: Tensor) -> Tensor:
        """Tokens (N, tokens, width) of labels (N,) or multi-hot (N, classes), "no label" as `null_label` says it."""
        vectors: Tensor = self.project(embed_labels(self.table, labels))
        return vectors.view(vectors.shape[0], self.tokens, -1)


def embed_labels(table: nn.Embedding, labels: Tensor) -> Tensor:
    """Rows (N, width) of `table`, whose last row stands for "no label": one an int64 label (N,), or the sum over those
    of a multi-hot label (N, classes)."""
    if labels.ndim == 1:
        rows: Tensor = table(labels)
        return rows
    unlabeled = (labels < 0).any(dim=1, keepdim=True)
    weights = torch.cat([labels.clamp(min=0), unlabeled.to(labels.dtype)], dim=1)
    return weights.to(table.weight.dtype) @ table.weight


def null_label(image: ImageSpec) -> Tensor:
    """The label that says nothing: one past the last class, int64 (); multi-hot, float32 (K,) of -1.

    All 0 says that none of the classes is there.
    """
    if image.multi_label:
        return torch.full((len(image.classes),), -1.0)
    return torch.tensor(len(image.classes))


def drop_labels(labels: Tensor, *, share: float, null: Tensor, generator: torch.Generator) -> Tensor:
    """`labels`, (N,) or multi-hot, a random `share` of them replaced by `null` (Ho & Salimans 2022, algorithm 1)."""
    drop = (torch.rand(labels.shape[0], generator=generator) < share).to(labels.device)
    return torch.where(drop.view(-1, *(1 for _ in labels.shape[1:])), null.to(labels).expand_as(labels), labels)
