"""Each metric against values worked out by hand, and what it says of odd sets."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.metric_samples import (
    dinov2_state,
    features_of,
    images,
    inception_state,
    lite0_state,
    sample_of,
    torchvision_state,
)
from matplotlib import cbook, image
from scipy import stats
from sklearn.datasets import load_sample_image

from medzoo import Sample
from medzoo.errors import DataError
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import DOMAIN
from medzoo.testing import check_extractor, check_metric

PLUGINS = load_plugins()
NAMES = [
    "fid", "kid", "isc", "prc", "lpips-diversity", "ssim", "ssim-diversity", "ms-ssim", "ms-ssim-diversity",
    "intensity", "edge-density", "wasserstein", "nearest-train", "density-coverage", "detection", "synthetic-accuracy",
    "label-agreement", "grain",
]  # fmt: skip


def measure(name, real, fake, *, seed=0, **more):
    return PLUGINS.metric(name).build()(real, fake, seed=seed, **more)


def normal(count, width=8, *, seed=0, shift=0.0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("name", NAMES)
def test_check_metric_first_party_plugin_passes(name):
    results = check_metric(PLUGINS.metric(name))
    assert {result.name: result.detail for result in results if not result.passed} == {}


@pytest.mark.parametrize("name", ["pixels", "alexnet", "inception", "efficientnet-lite0", "dinov2"])
def test_check_extractor_first_party_plugin_passes(name):
    weights = {
        "pixels": dict,
        "alexnet": lambda: {"alexnet-imagenet": torchvision_state("alexnet")},
        "inception": lambda: {"inception-fid": inception_state()},
        "efficientnet-lite0": lambda: {"efficientnet-lite0-imagenet": lite0_state()},
        "dinov2": lambda: {"dinov2-vits14": dinov2_state()},
    }
    results = check_extractor(PLUGINS.extractor(name), weights=weights[name](), side=28)
    assert {result.name: result.detail for result in results if not result.passed} == {}


def test_efficientnet_lite0_recognizes_photographs():
    extract = PLUGINS.extractor("efficientnet-lite0").build({"efficientnet-lite0-imagenet": lite0_state()}, "cpu")
    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None, :, :420, 110:530]
    hopper = torch.from_numpy(image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).copy())
    hopper = hopper.permute(2, 0, 1)[None, :, :512]
    best = [extract(pixels)["logits"][0].topk(3).indices.tolist() for pixels in (hopper, flower)]
    assert best[0][0] == 652  # military uniform
    assert 985 in best[1]  # daisy


def test_metric_specs_requirements():
    assert [name for name in NAMES if PLUGINS.metric(name).baseline] == [
        "fid",
        "kid",
        "prc",
        "ssim",
        "ms-ssim",
        "wasserstein",
        "density-coverage",
        "detection",
        "synthetic-accuracy",
        "label-agreement",
    ]
    assert {name: PLUGINS.metric(name).ideal for name in NAMES if PLUGINS.metric(name).ideal is not None} == {
        "intensity": 0.0,
        "edge-density": 1.0,
        "detection": 0.5,
        "grain": 1.0,
    }
    assert (
        PLUGINS.metric("fid").extractors
        == PLUGINS.metric("kid").extractors
        == ("efficientnet-lite0", "inception", DOMAIN)
    )
    assert PLUGINS.metric("prc").extractors == ("efficientnet-lite0", "vgg16", DOMAIN)
    assert PLUGINS.metric("nearest-train").needs_train == ("features", "mirrored")


def with_moments(count, mean, deviation):
    """`count` rows whose mean and unbiased covariance are exactly `mean` and diag(`deviation`^2)."""
    rows = normal(count, len(mean)).double()
    rows = rows - rows.mean(dim=0)
    whitened = torch.linalg.qr(rows).Q * math.sqrt(count - 1)
    return whitened * torch.tensor(deviation).double() + torch.tensor(mean).double()


@pytest.mark.parametrize(("real", "fake"), [(30, 20), (30, 4), (4, 4)])
def test_fid_gaussians_match_closed_form(real, fake):
    one, other = (
        with_moments(real, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]),
        with_moments(fake, [1.0, 1.0, 0.0], [2.0, 2.0, 1.0]),
    )
    # (1 + 4) for the means, (2 - 1)^2 + 0 + (3 - 1)^2 for the deviations
    assert measure("fid", features_of(one), features_of(other)).value == pytest.approx(10.0, rel=1e-9)


def test_fid_few_images_and_equal_sets():
    few, other = features_of(normal(5, 300)), features_of(normal(7, 300, seed=1, shift=1.0))
    there, back = measure("fid", few, other).value, measure("fid", other, few).value
    assert there == pytest.approx(back, rel=1e-9)
    assert measure("fid", few, few).value == pytest.approx(0.0, abs=1e-9 * there)


def test_kid_known_value():
    real, fake = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    # kernel (x.y / 2 + 1)^3; within: k(x1, x2) = 1 and k(y1, y2) = 1; between: 1, (1 + 1)^3 = 8, 1, 1
    expected = 1.0 + 1.0 - 2.0 * (1.0 + 8.0 + 1.0 + 1.0) / 4.0
    score = measure("kid", features_of(real), features_of(fake))
    assert score.value == pytest.approx(expected)
    assert score.value < 0
    assert (score.spread, score.spread_over) == (None, "")


def test_kid_unequal_sizes_draw_subsets_by_seed():
    real, fake = features_of(normal(40)), features_of(normal(25, seed=1))
    first, again, other = (measure("kid", real, fake, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value != other.value
    assert first.value == pytest.approx(other.value, abs=4 * first.spread)
    assert (first.spread_over, "100 subsets of 25 images" in first.method) == ("subsets", True)


def test_kid_lookup_matches_direct_computation(monkeypatch):
    real, fake = features_of(normal(40)), features_of(normal(25, seed=1))
    looked_up = measure("kid", real, fake)
    monkeypatch.setattr("medzoo_metrics.kid.WHOLE", 10)
    assert measure("kid", real, fake).value == pytest.approx(looked_up.value, rel=1e-5)


def test_isc_confident_and_uniform_logits():
    sure = 100.0 * torch.eye(5).repeat(3, 1)
    unsure = torch.zeros(15, 5)
    score = measure("isc", features_of(unsure, logits=unsure), features_of(sure, logits=sure))
    assert score.value == pytest.approx(5.0)
    assert score.details["real"] == pytest.approx(1.0)
    alike = sure[:1].repeat(15, 1)
    assert measure("isc", features_of(sure, logits=sure), features_of(alike, logits=alike)).value == pytest.approx(1.0)


def test_isc_fewer_splits_for_fewer_images():
    logits = normal(35, 5)
    score = measure("isc", features_of(logits, logits=logits), features_of(logits[:19], logits=logits[:19]))
    assert score.method.startswith("mean over splits: 1 of the synthetic images, 3 of the real ones")
    assert score.spread is None


def test_prc_known_values():
    real = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    fake = torch.tensor([1.9, 2.0, 2.1, 2.2, 50.0])[:, None]
    # all but 50 lie in some real image's ball; of the balls of the synthetic ones, those around 1.9 to 2.2 reach 0.3 at
    # most, to the real 2 alone, and that around 50 reaches back to 2.0, whence 2, 3, 4 and 5
    score = measure("prc", features_of(real), features_of(fake))
    assert score.details == pytest.approx({"precision": 4 / 5, "recall": 4 / 6})
    assert score.value == pytest.approx(2 * 0.8 * (4 / 6) / (0.8 + 4 / 6))
    assert measure("prc", features_of(fake), features_of(real)).details["recall"] == pytest.approx(4 / 5)


def test_density_coverage_known_values():
    real = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0])[:, None]
    fake = torch.tensor([0.5, 2.5, 2.6, 50.0])[:, None]
    # balls of radius 5, 4, 3, 3, 4, 5, 99 around 0 to 5 and 100: each holds the first three
    score = measure("density-coverage", features_of(real), features_of(fake))
    assert score.value == 1.0
    assert score.details["density"] == pytest.approx(7 * 3 / (5 * 4))


def test_density_coverage_same_distribution_meets_expectation():
    scores = [
        measure("density-coverage", features_of(normal(80, 4, seed=seed)), features_of(normal(60, 4, seed=1000 + seed)))
        for seed in range(40)
    ]
    expected = scores[0].details["expected coverage"]
    assert expected == pytest.approx(1 - math.prod((79 - k) / (139 - k) for k in range(5)))
    assert np.mean([score.value for score in scores]) == pytest.approx(expected, abs=0.01)
    assert np.mean([score.details["density"] for score in scores]) == pytest.approx(1.0, abs=0.05)


def test_density_coverage_outliers_and_modes():
    real = normal(100, 4)
    far = measure("density-coverage", features_of(real), features_of(normal(100, 4, seed=1, shift=30.0)))
    assert (far.value, far.details["density"]) == (0.0, 0.0)
    one_mode = measure("density-coverage", features_of(real), features_of(0.2 * normal(100, 4, seed=1)))
    assert one_mode.value < 0.6
    assert one_mode.details["density"] > 1.5
    # the ball around an outlier among the real images is large, but counts as one of 101
    outlier = torch.cat([real, torch.full((1, 4), 40.0)])
    away = measure("density-coverage", features_of(outlier), features_of(normal(100, 4, seed=1, shift=8.0)))
    assert away.value == 1 / 101


def test_detection_known_values():
    real, fake = normal(60, 5), normal(90, 5, seed=1)
    apart = measure("detection", features_of(real), features_of(fake + torch.tensor([50.0, 0, 0, 0, 0])))
    assert (apart.value, apart.spread, apart.spread_over) == (1.0, 0.0, "folds")
    assert "5 stratified folds of 60 real and 60 synthetic images" in apart.method
    assert (apart.n_real, apart.n_fake) == (60, 90)
    values = [measure("detection", features_of(real), features_of(fake), seed=seed).value for seed in range(3)]
    assert len(set(values)) == 3  # other images of the larger set, other folds
    assert all(0.3 < value < 0.7 for value in values)
    # two Gaussians d apart along one axis have the AUC of P(z < d / sqrt 2)
    many = [measure("detection", features_of(normal(400, 1)), features_of(normal(400, 1, seed=1, shift=1.0))).value]
    assert many[0] == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.04)


def test_detection_of_copies_is_chance():
    real = normal(60, 30)
    assert measure("detection", features_of(real), features_of(real.flip(0))).value == 0.5
    half = torch.cat([real[:30], normal(30, 30, seed=1)])
    assert measure("detection", features_of(real), features_of(half)).value == pytest.approx(0.5, abs=0.15)


def classes_of(labels, *, seed=0, names=("a", "b", "c"), apart=20.0):
    """Features around one place a class, and their labels."""
    labels = torch.tensor(labels)
    vectors = normal(len(labels), 6, seed=seed) + apart * torch.eye(6)[labels]
    return Sample(size=len(labels), features={"features": vectors}, labels=labels, classes=names)


def relabeled(sample, labels):
    return Sample(size=sample.size, features=sample.features, labels=torch.tensor(labels), classes=sample.classes)


def test_synthetic_accuracy_known_values():
    real = classes_of([0] * 10 + [1] * 30)
    fake = classes_of([0] * 12 + [1] * 12, seed=1)
    perfect = measure("synthetic-accuracy", real, fake)
    assert (perfect.value, perfect.interval) == (1.0, (1.0, 1.0))
    assert perfect.details == {
        "a": 1.0,
        "b": 1.0,
        "trained on real images": 1.0,
        "trained on real images: a": 1.0,
        "trained on real images: b": 1.0,
    }
    # of the real images of class a, half look like class b
    mixed = relabeled(real, [0] * 10 + [0] * 10 + [1] * 20)
    score = measure("synthetic-accuracy", mixed, fake)
    assert score.details["a"] == 0.5
    assert score.details["b"] == 1.0
    assert score.value == 0.75  # and not 30 of 40
    assert score.interval[0] < 0.75 < score.interval[1]


def test_label_agreement_known_values():
    real = classes_of([0] * 15 + [1] * 15)
    fake = relabeled(classes_of([0] * 15 + [1] * 15, seed=1), [0] * 10 + [1] * 20)  # five of 20 look like class a
    score = measure("label-agreement", real, fake)
    assert score.details == {
        "a": 1.0,
        "b": 0.75,
        "real images": 1.0,
        "real images: a": 1.0,
        "real images: b": 1.0,
    }
    assert score.value == 0.875


@pytest.mark.parametrize("name", ["synthetic-accuracy", "label-agreement"])
def test_class_metrics_absent_classes_are_nan(name):
    real, fake = classes_of([0] * 10 + [1] * 10), classes_of([1] * 10 + [2] * 10, seed=1)
    score = measure(name, real, fake)
    assert score.value == score.details["b"]
    assert math.isnan(score.details["a"])
    assert math.isnan(score.details["c"])
    with pytest.raises(DataError, match="all synthetic images are of one"):
        measure(name, real, classes_of([1] * 20))
    with pytest.raises(DataError, match="no class in common"):
        measure(name, real, classes_of([2] * 10 + [3] * 10, names=("a", "b", "c", "d")))


def gray_sets(*levels, side=16):
    """One constant image a level."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, side, side).clone()


def gap(first, second):
    return (first - second).abs().mean(dim=(1, 2, 3))


def test_lpips_diversity_within_and_between_classes():
    fake = sample_of(gray_sets(0, 51, 255), classes=2, distance=gap)  # classes 0, 1, 0
    real = sample_of(gray_sets(0, 255), classes=1, distance=gap)
    score = measure("lpips-diversity", real, fake)
    assert score.value == pytest.approx((0.2 + 0.8 + 1.0) / 3)
    assert score.details["within classes"] == pytest.approx(1.0)
    assert score.details["between classes"] == pytest.approx(0.5)
    assert score.details["real overall"] == score.details["real within classes"] == pytest.approx(1.0)
    assert math.isnan(score.details["real between classes"])
    assert score.spread == pytest.approx(np.std([0.2, 0.8, 1.0]))


def test_diversity_samples_500_distinct_pairs():
    asked = []

    def compare(first, second):
        light = (batch.mean(dim=(1, 2, 3)).tolist() for batch in (first, second))
        asked.extend(zip(*light, strict=True))
        return gap(first, second)

    fake = sample_of(gray_sets(*range(0, 240, 4)), distance=compare)
    score = measure("lpips-diversity", sample_of(gray_sets(0, 255), distance=gap), fake, seed=3)
    assert asked.pop() == pytest.approx((0.0, 1.0))  # the one pair of real images
    assert len(set(asked)) == len(asked) == 500
    assert all(one != other for one, other in asked)
    gray = fake.pixels.mean(dim=(1, 2, 3))
    everything = torch.pdist(gray[:, None]).mean().item()
    assert score.interval[0] < everything < score.interval[1]
    assert score.interval[1] - score.interval[0] > 4 * score.spread / math.sqrt(500)  # pairs share images
    assert measure("lpips-diversity", fake, fake, seed=4).value != score.value


def test_ssim_pairs_use_no_image_twice():
    pixels = images(12, side=16)
    score = measure("ssim", sample_of(pixels), sample_of(pixels[:9]), seed=1)
    assert "9 random pairs" in score.method
    assert score.interval[0] <= score.value <= score.interval[1]
    same = pixels[:1].repeat(5, 1, 1, 1)
    assert measure("ssim", sample_of(same), sample_of(same)).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "side", "told"),
    [("ssim", 10, "at least 11 pixels .* 10x10"), ("ms-ssim", 175, "at least 176 pixels .* 175x175")],
)
def test_similarity_of_too_small_images_raises(name, side, told):
    small = sample_of(images(2, side=side))
    for metric in (name, f"{name}-diversity"):
        with pytest.raises(DataError, match=told):
            measure(metric, small, small)


def test_intensity_known_values():
    real, fake = sample_of(gray_sets(0, 102)), sample_of(gray_sets(51, 255, 255))
    score = measure("intensity", real, fake)
    assert score.value == pytest.approx(11 / 15 - 0.2)
    assert score.details == pytest.approx(
        {
            "real min": 0.0,
            "real max": 0.4,
            "real mean": 0.2,
            "real std": 0.2,
            "synthetic min": 0.2,
            "synthetic max": 1.0,
            "synthetic mean": 11 / 15,
            "synthetic std": np.std([0.2, 1.0, 1.0]),
        }
    )
    assert score.histogram.shares["real"][0] == 0.5
    assert score.histogram.shares["synthetic"][-1] == pytest.approx(2 / 3)
    assert score.histogram.edges[0] == 0.0
    assert score.histogram.edges[-1] == 1.0


def test_intensity_color_uses_luma():
    red = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 255
    white = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    score = measure("intensity", sample_of(red), sample_of(white))
    assert (score.details["real mean"], score.details["synthetic mean"]) == pytest.approx((0.299, 1.0))


def test_pixel_metrics_chunks_match_whole(monkeypatch):
    real, fake = sample_of(images(7)), sample_of(images(5, seed=1))
    whole = [measure(name, real, fake) for name in ("intensity", "edge-density", "wasserstein", "grain")]
    monkeypatch.setattr("medzoo.toolkit.metric_samples.CHUNK", 2)
    parts = [measure(name, real, fake) for name in ("intensity", "edge-density", "wasserstein", "grain")]
    assert [score.value for score in parts] == pytest.approx([score.value for score in whole], rel=1e-9)


def test_edge_density_of_a_step():
    step = gray_sets(0, 0)
    step[..., 8:] = 255  # 2 of 16 columns rise by half a gray range a pixel
    faint = gray_sets(0, 0)
    faint[..., 8:] = 25  # by 0.049
    score = measure("edge-density", sample_of(step[:1].repeat(3, 1, 1, 1)), sample_of(step))
    assert (score.value, score.details) == (1.0, {"real": 0.125, "synthetic": 0.125})
    assert measure("edge-density", sample_of(step), sample_of(faint)).value == 0.0
    undefined = measure("edge-density", sample_of(faint), sample_of(step))
    assert math.isnan(undefined.value)
    assert undefined.interval is None


def noise(count, *, seed=0, blur=0.0, contrast=1.0, light=0.0):
    """White noise of 32 pixels, blurred by a Gaussian of `blur` pixels: what a metric is given."""
    pixels = torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    frequency = torch.fft.fftfreq(32, dtype=torch.float64)
    transfer = torch.exp(-2.0 * (math.pi * blur) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    pixels = torch.fft.ifft2(torch.fft.fft2(pixels) * transfer).real
    return Sample(size=count, pixels=(0.5 + light + 0.1 * contrast * pixels).float())


def test_grain_of_white_noise_is_one():
    real = noise(60)
    assert measure("grain", real, real).value == 1.0
    same = measure("grain", real, noise(60, seed=1, contrast=0.3, light=0.2))
    assert same.value == pytest.approx(1.0, abs=0.02)
    assert same.interval[0] < 1.0 < same.interval[1]
    frequency = torch.fft.fftfreq(32, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency)
    assert same.details["real"] == pytest.approx((radius > 0.25).double().mean().item(), abs=0.01)


def test_grain_shows_a_blur_of_half_a_pixel():
    blurred = measure("grain", noise(60), noise(60, seed=1, blur=0.5))
    frequency = torch.fft.fftfreq(32, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency)
    kept = torch.exp(-((2.0 * math.pi * 0.5 * radius) ** 2))  # of the power
    expected = (kept[radius > 0.25].sum() / kept.sum()) / (radius > 0.25).double().mean()
    assert blurred.value == pytest.approx(expected.item(), abs=0.02)
    assert blurred.value < 0.7
    assert blurred.interval[1] < 0.75
    curve = blurred.curve
    assert curve.x == pytest.approx([k / 16 for k in range(1, 17)])
    ratio = curve.lines["synthetic"]
    assert ratio[15] / ratio[3] == pytest.approx(math.exp(-((math.pi * 0.5) ** 2) * (1.0 - 1 / 16)), rel=0.25)
    assert all(0.8 < value < 1.25 for value in curve.lines["real: half against half"][2:])


def test_grain_ignores_the_slope_between_opposite_edges():
    slope = torch.linspace(-0.4, 0.4, 32).view(1, 1, 1, 32)
    fake = noise(40, seed=1)
    tilted = Sample(size=40, pixels=fake.pixels + slope)
    plain, tilted = (measure("grain", noise(40), some).details["synthetic"] for some in (fake, tilted))
    smooth = Sample(size=40, pixels=0.5 + slope.expand(40, 1, 32, 32))
    assert measure("grain", noise(40), smooth).value < 0.001  # without a window it is 0.2
    assert tilted < plain


def test_grain_constant_and_small_images():
    flat = Sample(size=3, pixels=torch.full((3, 1, 16, 16), 0.5))
    undefined = measure("grain", flat, flat)
    assert math.isnan(undefined.value)
    assert undefined.interval is None
    with pytest.raises(DataError, match="at least 8 pixels a side, these are 7x7"):
        measure("grain", Sample(size=2, pixels=torch.zeros(2, 1, 7, 7)), flat)


def test_wasserstein_known_values():
    score = measure("wasserstein", sample_of(gray_sets(0, 51)), sample_of(gray_sets(51, 102, 51, 102)))
    assert score.value == pytest.approx(0.2)
    same = sample_of(images(3))
    assert measure("wasserstein", same, same).value == 0.0


def points(*places):
    return torch.tensor(places)[:, None]


def train_of(vectors, mirrored):
    return Sample(size=len(vectors), features={"features": vectors, "mirrored": mirrored})


def test_nearest_train_known_values():
    train = train_of(points(0.0, 10.0, 20.0), points(100.0, 110.0, 120.0))
    real = features_of(points(2.0, 13.0, 104.0))  # distances 2, 3, 4
    fake = features_of(points(110.5, 20.0, 5.0, 18.0))  # 0.5 of the mirrored second, 0 of the third, 5, 2
    score = measure("nearest-train", real, fake, train=train)
    assert score.value == 3 / 4
    assert [(pair.fake, pair.train) for pair in score.pairs] == [(1, 2), (0, 1), (3, 2), (2, 0)]
    assert [pair.distance for pair in score.pairs] == pytest.approx([0.0, 0.5, 2.0, 5.0])
    assert score.details["threshold"] == 2.0
    assert score.details["expected share"] == 1 / 4
    assert (score.details["real median"], score.details["synthetic median"]) == (3.0, 1.25)
    # three or four of the four synthetic images before the nearest of three real ones: 1/7 * 3/6 ... by enumeration
    orders = sum(math.comb(7 - 1 - below, 2) for below in (3, 4))
    assert score.details["p_value"] == pytest.approx(orders / math.comb(7, 3))
    assert not score.failed
    assert "3 held-out images are too few to estimate the 1st percentile of their distances" in score.warnings
    # held-out images are 11, 11 and 91 from each other: 2/11, 3/11, 4/91; of the others the nearest is 104, 13, 2, 13
    assert score.details["relative share"] == 1 / 4


def test_nearest_train_leaves_out_sources():
    train = train_of(points(0.0, 10.0, 20.0), points(100.0, 110.0, 120.0))
    real = features_of(points(2.0, 13.0, 104.0))
    fake = replace(features_of(points(110.5, 20.5, 4.0, 18.0)), sources=torch.tensor([1, 2, -1, 0]))
    score = measure("nearest-train", real, fake, train=train)
    # The first is next to its own mirrored source, the second to its source: 9.5 from the others.
    assert {pair.fake: (pair.train, pair.distance) for pair in score.pairs} == {
        0: (2, 9.5), 1: (1, 10.5), 2: (0, 4.0), 3: (2, 2.0)
    }  # fmt: skip
    assert score.details["variations"] == 3
    assert (score.details["source closest"], score.details["source median"]) == (0.5, 18.0)
    assert score.details["source share"] == 1 / 3
    assert score.warnings[-1].startswith("3 of 4 synthetic images are variations of training images")
    plain = measure("nearest-train", real, replace(fake, sources=None), train=train)
    assert "variations" not in plain.details


def test_nearest_train_smooth_images_are_not_copies():
    train = train_of(normal(200, 16), normal(200, 16, seed=1))
    real = features_of(normal(120, 16, seed=2))
    smooth = measure("nearest-train", real, features_of(normal(100, 16, seed=3) * 0.3), train=train)
    assert smooth.details["p_value"] < 0.01 < smooth.details["relative p_value"]
    assert not smooth.failed
    assert "not copying" in smooth.warnings[0]
    copied = train.features["features"][:8]
    mixed = torch.cat([normal(92, 16, seed=3) * 0.3, copied])
    score = measure("nearest-train", real, features_of(mixed), train=train)
    assert score.details["detectable share"] <= 8 / 100
    assert score.failed
    assert score.details["relative share"] == 8 / 100


def test_nearest_train_finds_copies_and_passes_new_images():
    vectors = normal(150, 6)
    train = train_of(vectors, normal(150, 6, seed=1))
    real = features_of(normal(120, 6, seed=2))
    copies = measure("nearest-train", real, features_of(vectors[:40] + 1e-4), train=train)
    assert copies.failed
    assert (copies.value, copies.details["p_value"] < 1e-9, len(copies.pairs)) == (1.0, True, 16)
    new = measure("nearest-train", real, features_of(normal(100, 6, seed=3)), train=train)
    assert not new.failed
    assert new.value <= 0.05


def test_nearest_train_finds_copies_despite_leaked_images():
    vectors = normal(150, 6)
    train = train_of(vectors, normal(150, 6, seed=1))
    leaked = torch.cat([normal(99, 6, seed=2), vectors[:1]])
    score = measure("nearest-train", features_of(leaked), features_of(vectors[:40] * (1 + 1e-7)), train=train)
    assert (score.details["threshold"], score.value, score.failed) == (0.0, 1.0, True)


def test_nearest_train_false_positive_rate():
    failed, seeds = 0, 300
    for seed in range(seeds):
        distances = np.random.default_rng(seed).normal(size=(160, 1)) ** 2
        sets = [features_of(torch.tensor(some).float()) for some in (distances[:60], distances[60:])]
        train = train_of(torch.zeros(2, 1), torch.zeros(2, 1))
        failed += measure("nearest-train", *sets, train=train).failed
    assert stats.binomtest(failed, seeds, 0.01, alternative="greater").pvalue > 0.001


def test_nearest_train_equal_distances():
    same = features_of(torch.zeros(50, 4))
    score = measure("nearest-train", same, same, train=train_of(torch.zeros(5, 4), torch.zeros(5, 4)))
    assert (score.value, score.details["expected share"], score.failed) == (1.0, 50 / 51, False)


def test_pixels_distance_matches_correlation():
    extractor = PLUGINS.extractor("pixels").build({}, "cpu")
    pixels = images(2, side=32)
    one, other = extractor(pixels)["features"]
    correlation = np.corrcoef(pixels.flatten(1).numpy())[0, 1]
    assert (one - other).norm().item() == pytest.approx(math.sqrt(2 * (1 - correlation)), rel=1e-4)
    brighter = extractor((pixels // 2) + 60)["features"][0]
    assert (one - brighter).norm().item() < 0.05
    assert not extractor(gray_sets(128, 7, side=100))["features"].any()
