"""Experiment trackers that follow a training run, through accelerate: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from medzoo import config as settings
from medzoo.errors import ConfigError, UnknownName
from medzoo.plugins.foreign_errors import failure
from medzoo.storage.files import read_json, write_json_atomic

logger = logging.getLogger(__name__)

LOG_WITH = "training.log_with"
"""The key of settings that names trackers. It is no setting of a model: the weights do not depend on it."""
TRACKERS: Mapping[str, Sequence[str]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""By name of a tracker, the modules it needs."""
IDS = "trackers.json"
POINTS = 2000  # of a curve, about: an MLflow server is asked for each
_PROJECT = "medzoo"


def requested_trackers(log_with: str | Sequence[str], *, file: Path | None, overrides: Mapping[str, Any]) -> list[str]:
    """Return the trackers to log to: those of `log_with`, or else of `training.log_with` in `overrides` or `file`.

    Raises:
        UnknownName: a tracker that there is none of.
        ConfigError: a tracker whose package is not installed; a file that cannot be read; a value that is no name.
    """
    given: Any = log_with or overrides.get(LOG_WITH)
    if given is None and file is not None:
        given = settings.read_toml(file).get(LOG_WITH)
    names = [given] if isinstance(given, str) else list(given or ())
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("experiment tracker", str(name), TRACKERS)
        if lacking := [module for module in TRACKERS[name] if find_spec(module) is None]:
            raise ConfigError(f"--log-with {name} needs {lacking[0]}", f"pip install 'medzoo[{name}]'")
    return list(dict.fromkeys(names))


class Trackers:
    """The trackers of the run in `folder`, which start with its first step; each that fails is left out from then on.

    `hyperparameters` are logged once. `batch_sizes` are those of the stages of training. trackers.json holds the runs'
    ids, by which a resumed training continues them. Accelerate's `PartialState` must exist.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        hyperparameters: Mapping[str, Any],
        batch_sizes: Sequence[int],
    ) -> None:
        self.names = tuple(names)
        self._folder = folder
        self._hyperparameters = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in hyperparameters.items()
        }
        self._batch_sizes = batch_sizes
        self._running: dict[str, Any] = {}
        self._restore_mlflow = False
        self._since = (0, 0.0)  # the step and the time of the last point

    def start(self, step: int) -> None:
        """Start or continue the run of each tracker, whose next step is `step`."""
        begin = {"tensorboard": self._start_tensorboard, "wandb": self._start_wandb, "mlflow": self._start_mlflow}
        ids = self._ids()
        for name in self.names:
            with self._guarded(name):
                tracker, id = begin[name](step, ids.get(name))
                self._running[name] = tracker
                if name not in ids:
                    tracker.store_init_configuration(dict(self._hyperparameters))
                ids[name] = id
        if self.names:
            write_json_atomic(self._folder / IDS, ids)
        self._since = (step - 1, time.monotonic())

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Log the `metrics` of `step`, and images per second since the last point, at `POINTS` of `total` steps."""
        validated = [name for name in metrics if name.startswith("validation_")]
        if not self._running or (step % max(1, total // POINTS) and step < total and not validated):
            return
        values = {f"train/{name}": float(value) for name, value in metrics.items()}
        stage, (before, then), now = int(metrics.get("stage", 1)) - 1, self._since, time.monotonic()
        if stage < len(self._batch_sizes) and now > then:
            values["train/images_per_second"] = (step - before) * self._batch_sizes[stage] / (now - then)
        self._since = (step, now)
        for name, tracker in list(self._running.items()):
            with self._guarded(name):
                tracker.log(values, step=step)

    def log_samples(self, step: int, sheet: np.ndarray, file: Path) -> None:
        """Log a grid of samples, uint8 (3, H, W), which also is the image `file`, mark included."""
        for name, tracker in list(self._running.items()):
            with self._guarded(name):
                if name == "tensorboard":
                    tracker.log_images({"samples": sheet[None]}, step=step)
                elif name == "wandb":  # copies the file, with its mark
                    tracker.log_images({"samples": [str(file)]}, step=step)
                else:
                    tracker.log_artifact(str(file), "samples")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the runs: as failed, if the training did."""
        failed = kind is not None
        for name, tracker in list(self._running.items()):
            with self._guarded(name):
                if failed and name == "wandb":
                    tracker.tracker.finish(exit_code=1)
                elif failed and name == "mlflow":
                    import mlflow

                    mlflow.end_run(status="FAILED")
                else:
                    tracker.finish()
        self._running = {}
        if self._restore_mlflow:
            import mlflow

            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it was before

    def _start_tensorboard(self, step: int, id: str | None) -> tuple[Any, str]:
        from accelerate.tracking import TensorBoardTracker

        # What an interrupted run logged after its last checkpoint is dropped.
        tracker = TensorBoardTracker("tensorboard", str(self._folder), purge_step=step if id is not None else None)
        tracker.start()
        return tracker, "tensorboard"

    def _start_wandb(self, step: int, id: str | None) -> tuple[Any, str]:
        import wandb
        from accelerate.tracking import WandBTracker

        # Nothing of this machine goes out: no command line, host name, repository, code or console.
        quiet = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            login_timeout=60,  # who left the terminal answers no question
        )
        tracker = WandBTracker(
            os.environ.get("WANDB_PROJECT", _PROJECT),
            name=os.environ.get("WANDB_NAME", self._folder.resolve().name),
            id=id,
            resume="allow",
            dir=str(self._folder),
            settings=quiet,
        )
        tracker.start()
        run = tracker.tracker
        logger.info(f"wandb logs to {run.settings.sync_dir if run.offline else run.url}")
        return tracker, str(run.id)

    def _start_mlflow(self, step: int, id: str | None) -> tuple[Any, str]:
        import mlflow
        from accelerate.tracking import MLflowTracker

        artifacts = None
        if not mlflow.is_tracking_uri_set():
            root = self._folder.resolve()
            mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
            self._restore_mlflow, artifacts = True, (root / "mlartifacts").as_uri()
        tracker = MLflowTracker(
            _PROJECT,
            logging_dir=artifacts,
            run_id=id,
            run_name=self._folder.resolve().name,
            nested_run=mlflow.active_run() is not None,
        )
        tracker.start()
        logger.info(f"mlflow logs to {mlflow.get_tracking_uri()}, run {tracker.tracker.info.run_id}")
        return tracker, str(tracker.tracker.info.run_id)

    def _ids(self) -> dict[str, str]:
        """Return the ids of the trackers' runs that a training in this folder has started."""
        try:
            return {str(name): str(id) for name, id in read_json(self._folder / IDS).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError):
            logger.warning(f"{self._folder / IDS} is damaged; the trackers start new runs")
            return {}

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Leave the tracker out from now on, with a warning, if it fails; print to stderr what it prints."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # noqa: BLE001 - trackers call services, and no failure of theirs ends a training
            self._running.pop(name, None)
            logger.warning(f"{name} failed, and training continues without it: {failure(error)}")
