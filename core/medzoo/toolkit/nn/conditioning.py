"""Label embeddings, and the null label of classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import to_device


class LabelEmbedding(nn.Module):
    """Embeds labels as `tokens` vectors for cross-attention.

    Embedding(classes + 1, width) -> Linear -> SiLU -> Linear, read as (N, tokens, width). The last row of the table
    is the null label.
    """

    def __init__(self, *, classes: int, width: int = 256, hidden: int = 512, tokens: int = 8) -> None:
        super().__init__()
        self.tokens = tokens
        self.table = nn.Embedding(classes + 1, width)
        self.project = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width * tokens))

    def forward(self, labels: Tensor) -> Tensor:
        """Return tokens (N, tokens, width) of labels (N,) or multi-hot (N, classes), or of `null_label`."""
        vectors: Tensor = self.project(embed_labels(self.table, labels))
        return vectors.view(vectors.shape[0], self.tokens, -1)


def embed_labels(table: nn.Embedding, labels: Tensor) -> Tensor:
    """Return rows (N, width) of `table`, whose last row is the null label.

    A row for each int64 label (N,), or the sum of the rows of each multi-hot label (N, classes).
    """
    if labels.ndim == 1:
        rows: Tensor = table(labels)
        return rows
    unlabeled = (labels < 0).any(dim=1, keepdim=True)
    weights = torch.cat([labels.clamp(min=0), unlabeled.to(labels.dtype)], dim=1)
    return weights.to(table.weight.dtype) @ table.weight


def null_label(image: ImageSpec) -> Tensor:
    """Return the null label: one past the last class, int64 (); multi-label, float32 (K,) of -1.

    A multi-hot label of zeros is different: none of the classes is present.
    """
    if image.multi_label:
        return torch.full((len(image.classes),), -1.0)
    return torch.tensor(len(image.classes))


def drop_labels(labels: Tensor, *, share: float, null: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a random `share` of `labels`, (N,) or multi-hot, by `null` (Ho & Salimans 2022, algorithm 1)."""
    drop = to_device(torch.rand(labels.shape[0], generator=generator) < share, labels.device)
    return torch.where(drop.view(-1, *(1 for _ in labels.shape[1:])), null.to(labels).expand_as(labels), labels)
