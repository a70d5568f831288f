"""medzoo: a plugin-based model zoo for generative augmentation of medical images."""

from importlib import import_module
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

if TYPE_CHECKING:
    from medzoo import classify
    from medzoo.api import (
        as_dataset,
        augment,
        check_data,
        evaluate,
        fit_spectrum_gain,
        identify,
        list_models,
        load,
        load_experiment,
        plan_experiment,
        run_experiment,
        sample,
        split_data,
        train,
        tune,
    )
    from medzoo.classification.predict import ClassifierResult, Predictions
    from medzoo.data.checks import DataReport
    from medzoo.data.identify import Identification
    from medzoo.data.phantom import write_phantom
    from medzoo.data.splits import DataSplit
    from medzoo.evaluation.results import Evaluation
    from medzoo.experiment.results import Experiment
    from medzoo.generation.run import AugmentationResult
    from medzoo.generation.sample import SampleResult
    from medzoo.generation.synthetic_dataset import DrawnImages, Model, SyntheticImages
    from medzoo.hub.pull import Pulled, pull
    from medzoo.hub.registry import ModelEntry
    from medzoo.publishing.card import write_card
    from medzoo.publishing.dataset import DatasetPackage, push_dataset
    from medzoo.publishing.export import ExportResult, export
    from medzoo.publishing.push import Package, push
    from medzoo.report.gallery.site import Gallery, gallery
    from medzoo.report.inspection.report import Inspection, inspect
    from medzoo.report.study.page import NewStudy, new_study
    from medzoo.report.study.report import StudyReport, score_study
    from medzoo.study.power import StudyPower, study_power
    from medzoo.training.train import TrainResult
    from medzoo.tuning.policy import Policy, read_policy
    from medzoo.tuning.results import TuningResult
else:  # a type checker would take any name for one of the module's

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name == "classify":
            return import_module("medzoo.classify")
        if name not in _MODULES:
            raise AttributeError(f"module 'medzoo' has no attribute '{name}'")
        return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        """Return the names of the module, those that are imported when first asked for included."""
        return sorted({*globals(), *__all__})


# Imported when first asked for, so that `import medzoo` and the command line start without torch and numpy.
_LAZY = {
    "medzoo.api": "as_dataset augment check_data evaluate fit_spectrum_gain identify list_models load load_experiment "
    "plan_experiment run_experiment sample split_data train tune",
    "medzoo.classification.predict": "ClassifierResult Predictions",
    "medzoo.data.checks": "DataReport",
    "medzoo.data.identify": "Identification",
    "medzoo.data.phantom": "write_phantom",
    "medzoo.data.splits": "DataSplit",
    "medzoo.evaluation.results": "Evaluation",
    "medzoo.experiment.results": "Experiment",
    "medzoo.generation.run": "AugmentationResult",
    "medzoo.generation.sample": "SampleResult",
    "medzoo.generation.synthetic_dataset": "DrawnImages Model SyntheticImages",
    "medzoo.hub.pull": "Pulled pull",
    "medzoo.hub.registry": "ModelEntry",
    "medzoo.publishing.card": "write_card",
    "medzoo.publishing.dataset": "DatasetPackage push_dataset",
    "medzoo.publishing.export": "ExportResult export",
    "medzoo.publishing.push": "Package push",
    "medzoo.report.gallery.site": "Gallery gallery",
    "medzoo.report.inspection.report": "Inspection inspect",
    "medzoo.report.study.page": "NewStudy new_study",
    "medzoo.report.study.report": "StudyReport score_study",
    "medzoo.study.power": "StudyPower study_power",
    "medzoo.training.train": "TrainResult",
    "medzoo.tuning.policy": "Policy read_policy",
    "medzoo.tuning.results": "TuningResult",
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names.split()}

__all__ = [
    "AugmentationResult",
    "CheckpointStore",
    "Classifier",
    "ClassifierResult",
    "ClassifierSpec",
    "DataReport",
    "DataSplit",
    "DatasetPackage",
    "DrawnImages",
    "Evaluation",
    "Experiment",
    "ExportResult",
    "Extractor",
    "ExtractorSpec",
    "Gallery",
    "Generator",
    "GeneratorSpec",
    "Identification",
    "ImageSpec",
    "Inspection",
    "LabeledImages",
    "MedzooError",
    "Metric",
    "MetricSpec",
    "Model",
    "ModelEntry",
    "NewStudy",
    "Package",
    "Policy",
    "Predictions",
    "Pulled",
    "Sample",
    "SampleResult",
    "Score",
    "StudyPower",
    "StudyReport",
    "SyntheticImages",
    "TrainResult",
    "TrainingCallback",
    "TuningResult",
    "__version__",
    "as_dataset",
    "augment",
    "check_data",
    "classify",
    "evaluate",
    "export",
    "fit_spectrum_gain",
    "gallery",
    "hookimpl",
    "identify",
    "inspect",
    "list_models",
    "load",
    "load_experiment",
    "new_study",
    "plan_experiment",
    "pull",
    "push",
    "push_dataset",
    "read_policy",
    "run_experiment",
    "sample",
    "score_study",
    "split_data",
    "study_power",
    "train",
    "tune",
    "write_card",
    "write_phantom",
]
