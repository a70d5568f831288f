"""How a label reaches a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        """Tokens (N, tokens, width) of int64 labels (N,) in [0, classes]."""
        vectors: Tensor = self.project(self.table(labels))
        return vectors.view(vectors.shape[0], self.tokens, -1)


def drop_labels(labels: Tensor, *, share: float, null: int, generator: torch.Generator) -> Tensor:
    """`labels` (N,) with a random `share`, sample by sample, replaced by `null` (Ho & Salimans 2022, algorithm 1)."""
    drop = torch.rand(labels.shape[0], generator=generator) < share
    return torch.where(drop.to(labels.device), torch.full_like(labels, null), labels)
