"""medzoo's metrics, one per file beside its spec, and the networks in whose features they compare images.

Importing this package loads neither torch nor numpy: each metric imports what it computes with when it is called.
"""

from __future__ import annotations

from medzoo import ExtractorSpec, MetricSpec, hookimpl
from medzoo_metrics.density_coverage import DENSITY_COVERAGE
from medzoo_metrics.detection import DETECTION
from medzoo_metrics.edge_density import EDGE_DENSITY
from medzoo_metrics.extractors import EXTRACTORS
from medzoo_metrics.fid import FID
from medzoo_metrics.grain import GRAIN
from medzoo_metrics.intensity import INTENSITY
from medzoo_metrics.isc import ISC
from medzoo_metrics.kid import KID
from medzoo_metrics.label_agreement import LABEL_AGREEMENT
from medzoo_metrics.lpips_diversity import LPIPS_DIVERSITY
from medzoo_metrics.nearest_train import NEAREST_TRAIN
from medzoo_metrics.prc import PRC
from medzoo_metrics.ssim import MS_SSIM, MS_SSIM_DIVERSITY, SSIM, SSIM_DIVERSITY
from medzoo_metrics.synthetic_accuracy import SYNTHETIC_ACCURACY
from medzoo_metrics.wasserstein import WASSERSTEIN

FEATURES = (KID, FID, ISC, PRC, DENSITY_COVERAGE, DETECTION, SYNTHETIC_ACCURACY, LABEL_AGREEMENT)
PAIRS = (LPIPS_DIVERSITY, SSIM, SSIM_DIVERSITY, MS_SSIM, MS_SSIM_DIVERSITY)
PIXELS = (INTENSITY, EDGE_DENSITY, WASSERSTEIN, GRAIN)


@hookimpl
def register_metrics() -> list[MetricSpec]:
    """Provide metrics of features, of pairs of images, of pixels, and the memorization check."""
    return [*FEATURES, *PAIRS, *PIXELS, NEAREST_TRAIN]


@hookimpl
def register_extractors() -> list[ExtractorSpec]:
    """Provide `inception`, `vgg16`, `alexnet` and `pixels`."""
    return list(EXTRACTORS)
