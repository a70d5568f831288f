"""What medzoo measures images with: the metrics, and the networks in whose features they compare.

`medzoo evaluate` opens the sets, extracts features once and halves the real set for the floors; here are functions of
two samples.
"""

from __future__ import annotations

from medzoo import ExtractorSpec, Metric, MetricSpec, hookimpl
from medzoo.protocols import TrainMetric
from medzoo.specs import DOMAIN
from medzoo_metrics.extractors import EXTRACTORS


def build_fid() -> Metric:
    """Frechet distance."""
    from medzoo_metrics.fid import fid

    return fid


def build_kid() -> Metric:
    """Kernel distance."""
    from medzoo_metrics.kid import kid

    return kid


def build_isc() -> Metric:
    """Inception score."""
    from medzoo_metrics.isc import isc

    return isc


def build_prc() -> Metric:
    """Precision and recall."""
    from medzoo_metrics.prc import prc

    return prc


def build_lpips_diversity() -> Metric:
    """Perceptual distance within the synthetic set."""
    from medzoo_metrics.lpips_diversity import lpips_diversity

    return lpips_diversity


def build_ssim() -> Metric:
    """Structural similarity between the sets."""
    from medzoo_metrics.ssim import ssim

    return ssim


def build_ssim_diversity() -> Metric:
    """Structural similarity within the synthetic set."""
    from medzoo_metrics.ssim import ssim_diversity

    return ssim_diversity


def build_ms_ssim() -> Metric:
    """Multi-scale structural similarity between the sets."""
    from medzoo_metrics.ms_ssim import ms_ssim

    return ms_ssim


def build_ms_ssim_diversity() -> Metric:
    """Multi-scale structural similarity within the synthetic set."""
    from medzoo_metrics.ms_ssim import ms_ssim_diversity

    return ms_ssim_diversity


def build_intensity() -> Metric:
    """Grey levels."""
    from medzoo_metrics.intensity import intensity

    return intensity


def build_edge_density() -> Metric:
    """Share of edge pixels."""
    from medzoo_metrics.edge_density import edge_density

    return edge_density


def build_wasserstein() -> Metric:
    """Distance of histograms."""
    from medzoo_metrics.wasserstein import wasserstein

    return wasserstein


def build_nearest_train() -> TrainMetric:
    """Memorization check."""
    from medzoo_metrics.nearest_train import nearest_train

    return nearest_train


@hookimpl
def register_metrics() -> list[MetricSpec]:
    """Offer metrics of features, of pairs of images, of pixels, and the memorization check."""
    return [*_of_features(), *_of_pairs(), *_of_pixels(), _COPY_CHECK]


@hookimpl
def register_extractors() -> list[ExtractorSpec]:
    """Offer `inception`, `vgg16`, `alexnet` and `pixels`."""
    return list(EXTRACTORS)


def _of_features() -> list[MetricSpec]:
    return [
        MetricSpec(
            contract=2,
            name="kid",
            summary="kernel distance of the sets' features; unbiased, so it may be negative",
            unit="distance",
            higher_is_better=False,
            build=build_kid,
            needs_features=("features",),
            extractors=("inception", DOMAIN),
            baseline=True,
        ),
        MetricSpec(
            contract=2,
            name="fid",
            summary="Frechet distance of the sets' features; biased in the number of images",
            unit="distance",
            higher_is_better=False,
            build=build_fid,
            needs_features=("features",),
            extractors=("inception", DOMAIN),
            baseline=True,
            symmetric=True,
        ),
        MetricSpec(
            contract=2,
            name="isc",
            summary="Inception score: how sure and how varied a classifier finds the synthetic images",
            unit="score",
            higher_is_better=True,
            build=build_isc,
            needs_features=("logits",),
            extractors=("inception", DOMAIN),
            min_samples=10,
        ),
        MetricSpec(
            contract=2,
            name="prc",
            summary="F-score of precision (synthetic among real images) and recall (real among synthetic ones)",
            unit="share",
            higher_is_better=True,
            build=build_prc,
            needs_features=("features",),
            extractors=("vgg16", DOMAIN),
            min_samples=4,
            baseline=True,
            symmetric=True,
        ),
    ]


def _of_pairs() -> list[MetricSpec]:
    return [
        MetricSpec(
            contract=2,
            name="lpips-diversity",
            summary="how different synthetic images look from each other",
            unit="LPIPS",
            build=build_lpips_diversity,
            needs_pixels=True,
            needs_labels=True,
            needs_distance=True,
            extractors=("alexnet",),
        ),
        MetricSpec(
            contract=2,
            name="ssim",
            summary="structural similarity of random pairs of a real and a synthetic image",
            unit="SSIM",
            build=build_ssim,
            needs_pixels=True,
            baseline=True,
        ),
        MetricSpec(
            contract=2,
            name="ssim-diversity",
            summary="structural similarity of synthetic images to each other",
            unit="SSIM",
            build=build_ssim_diversity,
            needs_pixels=True,
            needs_labels=True,
        ),
        MetricSpec(
            contract=2,
            name="ms-ssim",
            summary="multi-scale structural similarity of random pairs of a real and a synthetic image",
            unit="MS-SSIM",
            build=build_ms_ssim,
            needs_pixels=True,
            baseline=True,
        ),
        MetricSpec(
            contract=2,
            name="ms-ssim-diversity",
            summary="multi-scale structural similarity of synthetic images to each other",
            unit="MS-SSIM",
            build=build_ms_ssim_diversity,
            needs_pixels=True,
            needs_labels=True,
        ),
    ]


def _of_pixels() -> list[MetricSpec]:
    return [
        MetricSpec(
            contract=2,
            name="intensity",
            summary="how much brighter the synthetic images are, and both sets' grey levels",
            unit="grey levels, 0 to 1",
            build=build_intensity,
            needs_pixels=True,
        ),
        MetricSpec(
            contract=2,
            name="edge-density",
            summary="the synthetic images' share of edge pixels over that of the real ones",
            unit="ratio",
            build=build_edge_density,
            needs_pixels=True,
        ),
        MetricSpec(
            contract=2,
            name="wasserstein",
            summary="distance of the sets' grey-level histograms",
            unit="grey levels, 0 to 1",
            higher_is_better=False,
            build=build_wasserstein,
            needs_pixels=True,
            baseline=True,
            symmetric=True,
        ),
    ]


_COPY_CHECK = MetricSpec(
    contract=2,
    name="nearest-train",
    summary="memorization check: share of synthetic images nearer to a training image than nearly all held-out ones",
    unit="share",
    higher_is_better=False,
    build=build_nearest_train,
    needs_features=("features",),
    needs_train=("features", "mirrored"),
    extractors=("pixels", DOMAIN),
)
