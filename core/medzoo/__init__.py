"""medzoo: a plugin-based model zoo for generative augmentation of medical images."""

from medzoo.errors import MedzooError
from medzoo.hookspecs import hookimpl
from medzoo.protocols import Classifier, Extractor, Generator, LabelledImages, Metric, Report, Sample, Score
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, ImageSpec, MetricSpec

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "ClassifierSpec",
    "Extractor",
    "ExtractorSpec",
    "Generator",
    "GeneratorSpec",
    "ImageSpec",
    "LabelledImages",
    "MedzooError",
    "Metric",
    "MetricSpec",
    "Report",
    "Sample",
    "Score",
    "__version__",
    "hookimpl",
]
