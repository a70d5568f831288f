"""Losses against closed forms and hand-computed values."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from medzoo.errors import IntegrityError, ResourceError
from medzoo.toolkit.training import losses


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mse", 25.0 / 2), ("l1", 7.0 / 2), ("charbonnier", (math.sqrt(9 + 1e-6) + math.sqrt(16 + 1e-6)) / 2)],
)
def test_pixel_distance_known_values(kind, expected):
    distance = losses.pixel_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]), kind=kind)
    assert distance.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["mse", "l1", "charbonnier"])
def test_pixel_distance_symmetric_and_zero_for_equal_images(kind):
    one, other = random(2, 1, 4, 4), random(2, 1, 4, 4, seed=1)
    assert losses.pixel_distance(one, other, kind=kind) == losses.pixel_distance(other, one, kind=kind)
    assert losses.pixel_distance(one, one, kind=kind).item() == pytest.approx(0.0, abs=1.001e-3)


@pytest.mark.parametrize("kind", ["mse", "l1", "charbonnier"])
def test_pixel_distance_weights_rows(kind):
    one, other = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    rows = torch.stack([losses.pixel_distance(a, b, kind=kind) for a, b in zip(one, other, strict=True)])
    weights = torch.tensor([0.0, 1.0, 0.5])
    weighted = losses.pixel_distance(one, other, kind=kind, weights=weights)
    assert torch.allclose(weighted, (weights * rows).mean())


def test_pixel_distance_charbonnier_is_smooth():
    image = torch.zeros(1, requires_grad=True)
    losses.pixel_distance(image, torch.zeros(1), kind="charbonnier").backward()
    assert image.grad.item() == 0.0
    far = torch.tensor([5.0], requires_grad=True)
    losses.pixel_distance(far, torch.zeros(1), kind="charbonnier").backward()
    assert far.grad.item() == pytest.approx(1.0, abs=1e-6)


def test_edge_distance_single_bright_pixel():
    target = torch.zeros(2, 1, 5, 5)
    prediction = target.clone()
    prediction[1, 0, 2, 2] = 1.0
    # a 3x3 map of Laplacians remains: -4 in the middle, 1 at its four neighbours, 0 in the corners
    assert losses.edge_distance(prediction, target).tolist() == pytest.approx([0.0, 8.0 / 9.0])
    assert losses.edge_distance(target, prediction).tolist() == pytest.approx([0.0, 8.0 / 9.0])


def test_edge_distance_ignores_brightness_and_averages_channels():
    image = random(1, 3, 8, 8)
    slope = torch.arange(8.0).view(1, 1, 1, 8)
    assert losses.edge_distance(image + 0.3 + 0.1 * slope, image).item() == pytest.approx(0.0, abs=1e-6)
    bright = image.clone()
    bright[0, 1] += random(8, 8, seed=1)
    one_channel = losses.edge_distance(bright[:, 1:2], image[:, 1:2])
    assert losses.edge_distance(bright, image).item() == pytest.approx(one_channel.item() / 3, rel=1e-5)


def test_gaussian_kl_matches_torch():
    mean1, log1, mean2, log2 = (random(50, seed=seed) for seed in range(4))
    expected = kl_divergence(Normal(mean1, (log1 / 2).exp()), Normal(mean2, (log2 / 2).exp()))
    assert torch.allclose(losses.gaussian_kl(mean1, log1, mean2, log2), expected, atol=1e-4)
    assert losses.gaussian_kl(mean1, log1, mean1, log1).abs().max() < 1e-6


@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, -2.0), (0.9, -6.0), (-1.3, 0.0), (0.11, -9.0)])
def test_discretized_gaussian_nll_sums_to_one(mean, log_variance):
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1.0
    nll = losses.discretized_gaussian_nll(
        levels,
        mean=torch.tensor(mean, dtype=torch.float64),
        log_variance=torch.tensor(log_variance, dtype=torch.float64),
    )
    assert torch.exp(-nll).sum().item() == pytest.approx(1.0, abs=1e-9)
    spread = math.exp(log_variance / 2)
    below = Normal(torch.tensor(mean, dtype=torch.float64), spread).cdf
    share = below(levels[100] + 1 / 255) - below(levels[100] - 1 / 255)
    assert torch.exp(-nll[100]).item() == pytest.approx(max(share.item(), 1e-12), rel=1e-6)


def test_discretized_gaussian_nll_finite_gradient_in_float32():
    log_variance = torch.tensor([-8.0, -8.0, 0.0], requires_grad=True)
    nll = losses.discretized_gaussian_nll(
        torch.tensor([0.0, 1.0, -1.0]), mean=torch.tensor([0.02, 0.9, 5.0]), log_variance=log_variance
    )
    nll.sum().backward()
    assert torch.isfinite(nll).all()
    assert torch.isfinite(log_variance.grad).all()
    assert (log_variance.grad[:2] != 0).all()


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory):
    """The convolutions of a VGG16 with random weights, saved as torchvision saves them."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {
            name: value.shape for name, value in vgg16(weights=None, init_weights=False).features.state_dict().items()
        }
    source = torch.Generator().manual_seed(0)
    state = {
        f"features.{name}": torch.randn(shape, generator=source) * (2.0 / max(math.prod(shape[1:]), 1)) ** 0.5
        for name, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(
        {**state, "classifier.0.weight": torch.zeros(1)}, path, _use_new_zipfile_serialization=False
    )  # torchvision's file is of that age
    return path


@pytest.fixture
def trusted(vgg16_file, monkeypatch):
    """The file above, taken for the real one."""
    digest = hashlib.sha256(vgg16_file.read_bytes()).hexdigest()
    monkeypatch.setattr(losses, "VGG16_SHA256", digest)
    return str(vgg16_file)


every_network = pytest.mark.parametrize("network", ["vgg16", "lpips"])


@every_network
def test_perceptual_distance_per_image_zero_and_symmetric(network, trusted):
    distance = losses.PerceptualDistance(network=network, weights=trusted)
    one = random(2, 3, 32, 32).clamp(-1, 1)
    other = one.clone()
    other[1] = random(3, 32, 32, seed=1).clamp(-1, 1)
    values = distance(one, other)
    assert values.shape == (2,)
    assert values[0].item() == 0.0
    assert values[1].item() > 0.01
    assert torch.allclose(values, distance(other, one), rtol=1e-5)
    farther = distance(one[:1], one[:1] + 0.5 * random(1, 3, 32, 32, seed=2))
    nearer = distance(one[:1], one[:1] + 0.1 * random(1, 3, 32, 32, seed=2))
    assert 0 < nearer < farther


@every_network
def test_perceptual_distance_grayscale_as_three_channels(network, trusted):
    distance = losses.PerceptualDistance(network=network, weights=trusted)
    one, other = random(1, 1, 32, 32), random(1, 1, 32, 32, seed=1)
    color = distance(one.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1))
    assert torch.allclose(distance(one, other), color)


@every_network
def test_perceptual_distance_gradient_and_frozen_weights(network, trusted):
    distance = losses.PerceptualDistance(network=network, weights=trusted)
    image = random(1, 1, 28, 28).requires_grad_()
    distance(image, random(1, 1, 28, 28, seed=1)).sum().backward()
    assert image.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in distance.parameters())


def test_perceptual_distance_vgg16_layers(trusted):
    from torchvision.models import vgg16

    whole = vgg16(weights=None, init_weights=False).features
    state = torch.load(trusted, weights_only=True)
    whole.load_state_dict({name.removeprefix("features."): v for name, v in state.items() if "features" in name})
    one, other = random(1, 3, 32, 32), random(1, 3, 32, 32, seed=1)

    def at(images, layers):
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return whole[:layers](((images + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1))

    with torch.no_grad():
        expected = sum((at(one, k) - at(other, k)).abs().mean() for k in (4, 9, 16))
        value = losses.PerceptualDistance(network="vgg16", weights=trusted)(one, other)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_perceptual_distance_lpips_uses_given_weights(trusted):
    distance = losses.PerceptualDistance(network="lpips", weights=trusted)
    state = torch.load(trusted, weights_only=True)
    own = dict(distance.distance.net.named_parameters())
    assert torch.equal(own["slice1.0.weight"], state["features.0.weight"])
    assert torch.equal(own["slice5.28.weight"], state["features.28.weight"])
    assert len(own) == sum(name.startswith("features.") for name in state)


@every_network
def test_perceptual_distance_keeps_global_random_state(network, trusted):
    before = torch.get_rng_state()
    losses.PerceptualDistance(network=network, weights=trusted)
    assert torch.equal(before, torch.get_rng_state())


def test_perceptual_distance_invalid_weights_raise(tmp_path, vgg16_file):
    with pytest.raises(ResourceError, match=r"needs VGG16 ImageNet weights .`medzoo pull vgg16-imagenet`"):
        losses.PerceptualDistance(network="vgg16", weights="")
    with pytest.raises(ResourceError, match=r"cannot read the weights .*nowhere.pth: No such file"):
        losses.PerceptualDistance(network="vgg16", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(IntegrityError, match=r"vgg16.pth has sha256 .*expected 397923af"):
        losses.PerceptualDistance(network="vgg16", weights=str(vgg16_file))
