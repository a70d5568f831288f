"""A training run's folder: checkpoints, loss curve, sample grids, and the callback that writes them."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from medzoo.data.images import write_image
from medzoo.data.marks import TRAINED, Mark
from medzoo.errors import IntegrityError
from medzoo.models.loading import class_sheet
from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.runs.progress import Progress, no_progress
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.storage.files import (
    optional_cache,
    read_json,
    remove_partial_files,
    with_checksum,
    without_checksum,
    write_atomic,
    write_json_atomic,
)
from medzoo.storage.tensors import read_cached_tensors, read_tensors, write_tensors
from medzoo.training.trackers import Trackers

logger = logging.getLogger(__name__)

PREVIEWS_PER_CLASS = 8
NOTES = "notes.json"
WHOLE = ("step", "stage")
SHOWN = (("loss", ".4f"), ("adversary", ".4f"), ("learning_rate", ".1e"))
# Drawn at each step and as a moving average: the column, its label, the colors of average and steps.
LOSSES = (("loss", "network", "#1f5fa8", "#c9d8ea"), ("adversary", "adversary", "#b3541e", "#eed8c9"))
# Drawn through the steps that were validated.
SCORES = (("validation_loss", "validation loss", "#b3541e"), ("balanced_accuracy", "balanced accuracy", "#2e7d32"))


class RunFolder(TrainingCallback, CheckpointStore):
    """The callback and the checkpoint store of a training run, both in `folder`.

    It writes checkpoints/step-00000500.safetensors (the newest `keep`, or all if that is 0), loss.csv, loss.png,
    samples/step-00000500.png and, if there are any, notes.json and warnings.txt. Cached tensors go to `cache`, which
    all runs share. `trackers` are logged to as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        image: ImageSpec,
        seed: int,
        keep: int,
        cache: Path,
        progress: Progress = no_progress,
        trackers: Trackers | None = None,
    ) -> None:
        self.folder = folder
        self.image = image
        self.seed = seed
        self._newest = keep
        self.cache = cache
        self.trackers = trackers
        self._progress = progress
        self._losses = LossTable(folder / "loss.csv")
        self._started = 0.0
        self._seconds_before = 0.0
        self.resumed_at = 0
        self.notes: dict[str, dict[str, float | str]] = {}

    @property
    def seconds(self) -> float:
        """Training time, including that of interrupted runs up to their last checkpoint."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def load_checkpoint(self) -> Mapping[str, Tensor] | None:
        """Read the newest intact checkpoint, and drop what was recorded after it; None if there is none.

        A damaged one is deleted, with a warning: kept, it would count as one of the newest.

        Raises:
            IntegrityError: what was recorded is damaged.
        """
        state, found = None, checkpoint_files(self.folder)
        while found and state is None:
            try:
                state = read_tensors(path := found.pop())
            except FileNotFoundError:  # of several processes that train together, another was the first to read it
                continue
            except IntegrityError as error:
                follows = f"resuming from {found[-1].name} instead" if found else "training from the first step instead"
                logger.warning(f"{error.message}; {follows}")
                path.unlink(missing_ok=True)
        if state is None:
            self._losses.rewind(0)
            return None
        self.notes = _read_notes(self.folder / NOTES)
        self.resumed_at = int(state["step"])
        self._losses.rewind(self.resumed_at)
        self._seconds_before = self._losses.rows[-1]["seconds"] if self._losses.rows else 0.0
        return state

    def save_checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Write `state`, then delete all but the newest `keep` checkpoints."""
        self._losses.write()
        write_tensors(self.folder / "checkpoints" / f"step-{step:08d}.safetensors", state)
        for old in checkpoint_files(self.folder)[: -self._newest] if self._newest else ():
            old.unlink()

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Record and report the losses of `step`."""
        if not self._started:
            if step > 1:
                logger.info(f"resuming from step {step - 1}")
            self._progress(step - 1, total)
            if self.trackers is not None:
                self.trackers.start(step)
            self._started = time.monotonic()
        shown = (f"{name} {metrics[name]:{form}}" for name, form in SHOWN if name in metrics)
        self._progress(step, total, ", ".join(shown))
        self._losses.add(step, {**metrics, "seconds": self.seconds})
        if self.trackers is not None:
            self.trackers.log(step, total, metrics)

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Write a grid of samples, one row per class and always of the same seeds, and the loss curve so far."""
        seeds = {
            name: [derive_seed(self.seed, "preview", label, i) for i in range(PREVIEWS_PER_CLASS)]
            for label, name in enumerate(self.image.classes)
        }
        sheet = class_sheet(self.image, sample, seeds=seeds, side=64)
        write_image(path := self.folder / "samples" / f"step-{step:08d}.png", sheet, Mark(source_type=TRAINED))
        if self.trackers is not None:
            self.trackers.log_samples(step, sheet, path)
        self.draw_curve()

    def draw_curve(self) -> None:
        """Write loss.csv and draw loss.png, if a step was recorded."""
        self._losses.write()
        if self._losses.rows:
            self._losses.draw(self.folder / "loss.png")

    def log_metadata(self, name: str, value: Mapping[str, float | str]) -> None:
        """Record a fact for run.json and config.json; notes.json preserves it across interruptions."""
        self.notes[name] = dict(value)
        write_json_atomic(self.folder / NOTES, with_checksum(self.notes))

    def warn(self, message: str) -> None:
        """Log a warning and add it to warnings.txt, once."""
        logger.warning(message)
        if message not in (known := self.warnings()):
            write_atomic(self.folder / "warnings.txt", "".join(f"{line}\n" for line in [*known, message]).encode())

    def warnings(self) -> list[str]:
        """Return all warnings so far, including those before an interruption."""
        path = self.folder / "warnings.txt"
        return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors cached under `key`, as `cached_tensors` does."""
        return cached_tensors(self.cache, key, compute)


def _read_notes(path: Path) -> dict[str, dict[str, float | str]]:
    """Read the facts recorded so far. Raises: IntegrityError."""
    try:
        notes = without_checksum(read_json(path))
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "delete it to resume without these facts") from error
    if not all(isinstance(facts, dict) for facts in notes.values()):
        raise IntegrityError(f"{path} is damaged", "delete it to resume without these facts")
    return notes


def checkpoint_files(folder: Path) -> list[Path]:
    """List the checkpoints of the run in `folder`, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*.safetensors"))


def cached_tensors(cache: Path, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Read the tensors in `cache` under `key`; compute and, if possible, write them if it is missing or damaged."""
    path = cache / f"{key}.safetensors"
    if (kept := read_cached_tensors(path)) is not None:
        return kept
    remove_partial_files(cache)
    tensors = {name: value.detach().cpu().contiguous() for name, value in compute().items()}
    with optional_cache():
        write_tensors(path, tensors)
    return tensors


class LossTable:
    """loss.csv, one row per step; a run that resumes from a checkpoint drops the rows after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def rewind(self, step: int) -> None:
        """Keep the rows up to `step`. Raises: IntegrityError."""
        self.rows = []
        if step and self.path.exists():
            try:
                with self.path.open(newline="", encoding="utf-8") as file:
                    read = csv.DictReader(file)
                    rows = [{key: float(value) for key, value in row.items() if value} for row in read]
                self.rows = [row for row in rows if row["step"] <= step and row["seconds"] >= 0.0]
            except (csv.Error, ValueError, KeyError, TypeError) as error:
                hint = "delete it to resume without the losses recorded so far"
                raise IntegrityError(f"{self.path} is damaged: {error}", hint) from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a step's values."""
        self.rows.append({"step": step, **values})

    def write(self) -> None:
        """Write all rows."""
        if not self.rows:
            return
        text = io.StringIO(newline="")
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(text, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: int(v) if k in WHOLE else f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        write_atomic(self.path, text.getvalue().encode())

    def draw(self, path: Path) -> None:
        """Plot the losses, one panel per stage: each step, and the moving average over a fiftieth of the stage.

        Of a classifier, also the scores on validation images.
        """
        from matplotlib.figure import Figure

        stages = sorted({row.get("stage", 1.0) for row in self.rows})
        figure = Figure(figsize=(7 * len(stages), 4), layout="constrained")
        for stage, axes in zip(stages, figure.subplots(1, len(stages), squeeze=False)[0], strict=True):
            rows = [row for row in self.rows if row.get("stage", 1.0) == stage]
            steps, width = [row["step"] for row in rows], max(1, len(rows) // 50)
            for name, label, color, pale in LOSSES:
                losses = [row[name] for row in rows if name in row]
                if len(losses) == len(rows):
                    recent = [losses[max(0, i - width) : i + 1] for i in range(len(losses))]
                    axes.plot(steps, losses, color=pale, linewidth=0.6)
                    axes.plot(steps, [math.fsum(w) / len(w) for w in recent], color=color, linewidth=1.5, label=label)
            scored = False
            for name, label, color in SCORES:
                if points := [(row["step"], row[name]) for row in rows if name in row]:
                    axes.plot(*zip(*points, strict=True), color=color, linewidth=1.2, label=label)
                    scored = True
            axes.set(xlabel="optimizer step", ylabel=f"training loss (line: mean of {width + 1} steps)")
            if axes.lines:
                axes.legend(frameon=False)
            positive = all(row[name] > 0 for row in rows for name, *_ in LOSSES if name in row)
            axes.set_yscale("log" if positive and not scored else "linear")
            axes.spines[["top", "right"]].set_visible(False)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        write_atomic(path, image.getvalue())
