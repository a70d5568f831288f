"""medzoo: a plugin-based model zoo for generative augmentation of medical images."""

from typing import TYPE_CHECKING

from medzoo._version import __version__
from medzoo.errors import MedzooError
from medzoo.hookspecs import hookimpl
from medzoo.protocols import (
    CheckpointStore,
    Classifier,
    Extractor,
    Generator,
    LabeledImages,
    Metric,
    Sample,
    Score,
    TrainingCallback,
)
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, ImageSpec, MetricSpec

__all__ = [
    "CheckpointStore",
    "Classifier",
    "ClassifierSpec",
    "DrawnImages",
    "Extractor",
    "ExtractorSpec",
    "Generator",
    "GeneratorSpec",
    "ImageSpec",
    "LabeledImages",
    "MedzooError",
    "Metric",
    "MetricSpec",
    "Model",
    "ModelEntry",
    "Outcome",
    "Sample",
    "Score",
    "SyntheticImages",
    "TrainingCallback",
    "__version__",
    "as_dataset",
    "augment",
    "hookimpl",
    "list_models",
    "load",
]

if TYPE_CHECKING:
    from medzoo.api import as_dataset, augment, list_models, load
    from medzoo.generation.run import Outcome
    from medzoo.generation.synthetic_dataset import DrawnImages, Model, SyntheticImages
    from medzoo.hub.registry import ModelEntry
else:
    # Not for type checkers, which would take any name for one of the module's.
    def __getattr__(name: str) -> object:
        """What programs use medzoo by, imported when first asked for, so that `import medzoo` stays light."""
        if name in ("as_dataset", "augment", "list_models", "load"):
            from medzoo import api as home
        elif name in ("DrawnImages", "Model", "SyntheticImages"):
            from medzoo.generation import synthetic_dataset as home
        elif name == "Outcome":
            from medzoo.generation import run as home
        elif name == "ModelEntry":
            from medzoo.hub import registry as home
        else:
            raise AttributeError(f"module 'medzoo' has no attribute '{name}'")
        return getattr(home, name)

    def __dir__() -> list[str]:
        """The names of a module, and those that are imported when first asked for."""
        return sorted({*globals(), *__all__})
