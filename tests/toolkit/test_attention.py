"""Recorded cross-attention: its shares, its means, which rows it looks at, and what it leaves as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medzoo.toolkit.nn.attention import recorded_attention
from medzoo.toolkit.nn.unet import TokenUNet
from medzoo.toolkit.settings import TokenUNetSettings


@pytest.fixture
def network():
    settings = TokenUNetSettings(
        block_out_channels=(8, 16),
        layers_per_block=1,
        num_attention_heads=2,
        norm_num_groups=4,
        num_label_tokens=3,
        cross_attention_dim=16,
        label_hidden_dim=16,
        attention_from=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TokenUNet(settings, size=16, channels=1, classes=2).eval()


def noise(count):
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def step(network, images, labels, timestep=5):
    return network(images, torch.full((len(images),), timestep), labels)


def test_recorded_attention_shape_and_sum(network):
    images, labels = noise(4), torch.tensor([0, 1, 0, 2])
    drawn, maps = recorded_attention(network.unet, lambda: step(network, images, labels), count=4)
    assert maps.shape == (4, 3, 16, 16)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(4, 16, 16))
    assert (maps[0] - maps[1]).abs().max() > 0, "another label, other attention"
    assert torch.equal(drawn, step(network, images, labels))


def test_recorded_attention_restores_processors_after_error(network):
    before = network.unet.attn_processors

    def fail():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        recorded_attention(network.unet, fail, count=1)
    recorded_attention(network.unet, lambda: step(network, noise(1), torch.tensor([0])), count=1)
    after = network.unet.attn_processors
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_recorded_attention_averages_steps_of_first_rows(network):
    images = noise(2)

    def maps(*timesteps, labels):
        def draw():
            for timestep in timesteps:
                drawn = step(network, torch.cat([images] * (len(labels) // 2)), torch.tensor(labels), timestep)
            return drawn

        return recorded_attention(network.unet, draw, count=2)[1]

    first, second = maps(1, labels=[0, 1]), maps(9, labels=[0, 1])
    assert not torch.allclose(first, second, atol=1e-6)
    torch.testing.assert_close(maps(1, 9, labels=[0, 1]), (first + second) / 2)
    guided = maps(1, labels=[0, 1, 2, 2])
    torch.testing.assert_close(guided, first, atol=1e-5, rtol=0)
    assert not torch.allclose(guided, maps(1, labels=[2, 2]), atol=1e-4), "the unlabelled half is another"


def test_recorded_attention_preferred_token_gets_full_weight():
    """By hand: one head of width 1, whose keys are 0 and 1000 times a query of 1."""
    from diffusers.models.attention_processor import Attention

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Attention(query_dim=1, cross_attention_dim=1, heads=1, dim_head=1, bias=False)
            self.layer.to_q.weight.data.fill_(1.0)
            self.layer.to_k.weight.data.fill_(1000.0)

        @property
        def attn_processors(self):
            return {"layer": self.layer.processor}

        def set_attn_processor(self, processors):
            self.layer.set_processor(processors["layer"])

    net = Net()
    queries, tokens = torch.ones(1, 4, 1), torch.tensor([[[0.0], [1.0]]])
    _, maps = recorded_attention(net, lambda: net.layer(queries, encoder_hidden_states=tokens), count=1)
    assert torch.equal(maps, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2))
    _, half = recorded_attention(net, lambda: net.layer(0 * queries, encoder_hidden_states=tokens), count=1)
    assert torch.equal(half, torch.full((1, 2, 2, 2), 0.5))
