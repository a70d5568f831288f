"""The metrics against the reference libraries, on the same images and the same random weights."""

from __future__ import annotations

import warnings

import lpips
import numpy as np
import pytest
import torch
import torch_fidelity
from helpers.metric_samples import features_of, images, inception_state, sample_of, torchvision_state
from scipy import ndimage, stats
from torch import nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torchmetrics.functional import image as torchmetrics

from medzoo.plugins.lookup import load_plugins

CLOSE = 1e-4


@pytest.fixture(scope="module")
def metric():
    """A metric by name."""
    return lambda name: load_plugins().metric(name).build()


class Color(torch.utils.data.Dataset):
    """Gray images as torch-fidelity wants them: three equal channels."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.pixels[index].expand(3, -1, -1)


def fidelity(fake, real, **wanted):
    """torch-fidelity's metrics of two sets of images, by its own way from pixels to numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its data loader and its deprecated calls
        return torch_fidelity.calculate_metrics(
            input1=Color(fake), input2=Color(real), cuda=False, cache=False, verbose=False, batch_size=16, **wanted
        )


class Projection(FeatureExtractorBase):
    """A quick extractor for torch-fidelity: random directions in the space of pixels."""

    def __init__(self, name, features_list, **settings):
        super().__init__(name, features_list)
        self.directions = nn.Parameter(
            torch.randn(48 * 48, 40, generator=torch.Generator().manual_seed(5)), requires_grad=False
        )

    @staticmethod
    def get_provided_features_list():
        return ("projected",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "projected"

    def forward(self, pixels):
        return (pixels[:, 0].flatten(1).float() / 255.0 @ self.directions,)


@pytest.fixture(scope="module")
def projected():
    """Scores of torch-fidelity for 50 synthetic and 60 real images, and the samples they are of, real ones first."""
    torch_fidelity.register_feature_extractor("projection", Projection)
    real, fake = images(60), images(50, seed=1, light=0.05)
    wanted = {"fid": True, "kid": True, "isc": True, "prc": True, "kid_subset_size": 50, "isc_splits": 5, "rng_seed": 7}
    scores = fidelity(fake, real, feature_extractor="projection", **wanted)
    network = Projection("projection", ["projected"])
    vectors = [network(pixels)[0] for pixels in (real, fake)]
    return scores, [features_of(found, logits=found) for found in vectors]


def test_fid_matches_torch_fidelity(metric, projected):
    scores, samples = projected
    score = metric("fid")(*samples, seed=7)
    assert score.value == pytest.approx(scores["frechet_inception_distance"], rel=CLOSE)
    assert (score.n_real, score.n_fake) == (60, 50)


def test_kid_matches_torch_fidelity(metric, projected):
    scores, samples = projected
    score = metric("kid")(*samples, seed=7)
    assert score.value == pytest.approx(scores["kernel_inception_distance_mean"], rel=CLOSE)
    assert score.spread == pytest.approx(scores["kernel_inception_distance_std"], rel=CLOSE)


def test_isc_matches_torch_fidelity(metric, projected):
    scores, samples = projected
    score = metric("isc")(*samples, seed=7)
    assert score.value == pytest.approx(scores["inception_score_mean"], rel=CLOSE)
    assert score.spread == pytest.approx(scores["inception_score_std"], rel=CLOSE)


def test_prc_matches_torch_fidelity(metric, projected):
    scores, samples = projected
    score = metric("prc")(*samples, seed=7)
    assert score.details["precision"] == pytest.approx(scores["precision"])
    assert score.details["recall"] == pytest.approx(scores["recall"])
    assert score.value == pytest.approx(scores["f_score"])
    assert score.details["precision"] != score.details["recall"]


def test_inception_matches_torch_fidelity_from_pixels(metric, tmp_path):
    state = inception_state()
    torch.save(state, tmp_path / "inception.pth")
    real, fake = images(5), images(4, seed=1, light=0.05)
    wanted = {"fid": True, "kid": True, "kid_subset_size": 4, "rng_seed": 7}
    scores = fidelity(fake, real, feature_extractor_weights_path=str(tmp_path / "inception.pth"), **wanted)
    extractor = load_plugins().extractor("inception").build({"inception-fid": state}, "cpu")
    found = [extractor(pixels) for pixels in (real, fake)]
    assert found[0]["features"].shape == (5, 2048)
    assert found[0]["logits"].shape == (5, 1008)
    samples = [features_of(layers["features"], logits=layers["logits"]) for layers in found]
    assert metric("fid")(*samples, seed=7).value == pytest.approx(scores["frechet_inception_distance"], rel=CLOSE)
    kernel = metric("kid")(*samples, seed=7)
    assert kernel.value == pytest.approx(scores["kernel_inception_distance_mean"], rel=CLOSE)


def test_vgg16_matches_torch_fidelity_features(tmp_path, monkeypatch):
    for name in ("normal_", "kaiming_normal_", "kaiming_uniform_", "uniform_"):  # for weights that are replaced at once
        monkeypatch.setattr(nn.init, name, lambda tensor, *arguments, **options: tensor)
    state = torchvision_state("vgg16")
    torch.save(state, tmp_path / "vgg16.pth")
    reference = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(tmp_path / "vgg16.pth"))
    extractor = load_plugins().extractor("vgg16").build({"vgg16-imagenet": state}, "cpu")
    pixels = images(2)
    found = extractor(pixels)["features"]
    assert found.shape == (2, 4096)
    torch.testing.assert_close(found, reference(pixels.expand(-1, 3, -1, -1))[0], rtol=CLOSE, atol=1e-5)
    assert extractor.distance(pixels, pixels).tolist() == [0.0, 0.0]
    assert extractor.distance(pixels[:1], pixels[1:]).item() > 0.0


def test_alexnet_matches_lpips():
    state = torchvision_state("alexnet")
    extractor = load_plugins().extractor("alexnet").build({"alexnet-imagenet": state}, "cpu")
    one, other = images(3, channels=3), images(3, channels=3, seed=1)
    expected = reference_lpips(state, one, other)
    torch.testing.assert_close(extractor.distance(one, other), expected, rtol=CLOSE, atol=0.0)
    assert extractor(one) == {}


def reference_lpips(state, first, second):
    """The distance by lpips on AlexNet, its backbone's layers filled one by one."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torchvision's, of an argument lpips uses
        distance = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        for part in distance.net.children():
            for number, layer in part.named_children():
                for name, values in layer.named_parameters():
                    values.copy_(state[f"features.{number}.{name}"])
        one, other = (pixels.expand(-1, 3, -1, -1) / 255.0 for pixels in (first, second))
        return distance(one, other, normalize=True).flatten()


@pytest.mark.parametrize(
    ("name", "side", "reference"),
    [
        ("ssim", 47, torchmetrics.structural_similarity_index_measure),
        ("ms-ssim", 181, torchmetrics.multiscale_structural_similarity_index_measure),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_matches_torchmetrics_per_pair(metric, name, side, reference, channels):
    real, fake = (sample_of(images(2, side=side, channels=channels, seed=seed)) for seed in (0, 1))
    score = metric(name)(real, fake, seed=3)
    ways = [
        reference(fake.pixels[order].double(), real.pixels.double(), data_range=1.0, reduction="none").mean().item()
        for order in ([0, 1], [1, 0])
    ]
    assert ways[0] != pytest.approx(ways[1], rel=1e-3)
    assert min(abs(score.value - way) for way in ways) < 5e-5
    alone = metric(f"{name}-diversity")(real, fake, seed=3)
    expected = reference(fake.pixels[:1].double(), fake.pixels[1:].double(), data_range=1.0).item()
    assert alone.value == pytest.approx(expected, abs=5e-5)


def test_edge_density_matches_scipy_sobel(metric):
    real, fake = (sample_of(images(3, side=20, seed=seed)) for seed in (0, 1))
    score = metric("edge-density")(real, fake, seed=0)

    def share(pixels):
        slopes = [[ndimage.sobel(image[0], axis=axis, mode="nearest") / 8.0 for axis in (0, 1)] for image in pixels]
        return np.mean([np.hypot(*slope) > 0.05 for slope in slopes])

    assert score.details == pytest.approx({"real": share(real.pixels.numpy()), "synthetic": share(fake.pixels.numpy())})
    assert 0.0 < score.details["real"] < 1.0


def test_wasserstein_matches_scipy(metric):
    real, fake = sample_of(images(3)), sample_of(images(4, seed=1, light=0.1))
    expected = stats.wasserstein_distance(real.pixels.flatten(), fake.pixels.flatten())
    assert metric("wasserstein")(real, fake, seed=0).value == pytest.approx(expected, rel=CLOSE)
