"""Label tokens and label drop-out."""

from __future__ import annotations

import pytest
import torch

from medzoo.toolkit.nn.conditioning import LabelEmbedding, drop_labels


def test_label_embedding_default_shapes():
    embedding = LabelEmbedding(classes=4)
    tokens = embedding(torch.tensor([0, 3, 4]))
    assert tokens.shape == (3, 8, 256)
    assert embedding.table.weight.shape == (5, 256), "one row more, for 'no label'"
    assert [tuple(layer.weight.shape) for layer in embedding.project[::2]] == [(512, 256), (2048, 512)]


def test_label_embedding_tokens_are_projection_rows():
    embedding = LabelEmbedding(classes=2, width=6, hidden=5, tokens=3)
    with torch.no_grad():
        hidden = torch.nn.functional.silu(embedding.project[0](embedding.table.weight[1]))
        flat = embedding.project[2](hidden)
        assert torch.allclose(embedding(torch.tensor([1]))[0], flat.view(3, 6))


def test_label_embedding_distinct_tokens_per_label():
    embedding = LabelEmbedding(classes=3)
    tokens = embedding(torch.tensor([0, 1, 2, 3]))
    flat = tokens.flatten(0, 1)
    assert (torch.cdist(flat, flat) + 9 * torch.eye(32)).min() > 0
    assert torch.allclose(embedding(torch.tensor([2, 2]))[1], tokens[2], atol=1e-6)


def test_label_embedding_label_out_of_range_raises():
    with pytest.raises(IndexError):
        LabelEmbedding(classes=3)(torch.tensor([4]))


def test_drop_labels_drops_each_sample_independently():
    labels = torch.arange(20_000) % 4
    dropped = drop_labels(labels, share=0.1, null=torch.tensor(4), generator=torch.Generator().manual_seed(0))
    gone = dropped == 4
    assert abs(gone.double().mean().item() - 0.1) < 0.011  # five standard deviations of 0.0021
    assert torch.equal(dropped[~gone], labels[~gone])
    for label in range(4):
        assert abs(gone[labels == label].double().mean().item() - 0.1) < 0.022
    batches = gone.view(-1, 8).double().sum(dim=1)
    assert (batches == 0).double().mean().item() == pytest.approx(0.9**8, abs=0.05), "not whole batches at a time"
    assert batches.max() < 8


def test_drop_labels_none_or_all_keeps_input():
    labels = torch.tensor([0, 1, 2])
    source = torch.Generator().manual_seed(0)
    assert torch.equal(drop_labels(labels, share=0.0, null=torch.tensor(3), generator=source), labels)
    assert drop_labels(labels, share=1.0, null=torch.tensor(3), generator=source).tolist() == [3, 3, 3]
    assert labels.tolist() == [0, 1, 2]


def test_drop_labels_depends_only_on_generator():
    labels = torch.zeros(100, dtype=torch.int64)

    def drop(seed):
        return drop_labels(labels, share=0.5, null=torch.tensor(1), generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drop(1), drop(1))
    assert not torch.equal(drop(1), drop(2))
