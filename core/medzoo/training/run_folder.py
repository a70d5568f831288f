"""A training run's folder: checkpoints, loss curve, sample grids, and the `Report` that writes them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from medzoo.data.images import write_image
from medzoo.errors import IntegrityError
from medzoo.models.contact_sheet import class_sheet
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.storage.files import make_folder, write_atomic, write_json_atomic

PREVIEWS_PER_CLASS = 8
NOTES = "notes.json"
WHOLE = ("step", "stage")
LINES = (("loss", "network", "#1f5fa8", "#c9d8ea"), ("adversary", "adversary", "#b3541e", "#eed8c9"))


class Display(Protocol):
    """Shows a run's progress to whoever watches."""

    def start(self, step: int, total: int) -> None:
        """Training begins after `step` of `total` steps."""

    def update(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Step `step` of `total` is done with these losses."""

    def warn(self, message: str) -> None:
        """Something looks wrong."""


class ScalarLog(Protocol):
    """TensorBoard's writer, as far as it is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Record one value."""


class RunFolder:
    """The `Report` of a training run: everything it keeps lies in `folder`.

    checkpoints/step-00000500.safetensors (the newest `keep`, or all where that is 0), loss.csv, loss.png,
    samples/step-00000500.png, and, where there was cause, notes.json and warnings.txt. Tensors to be kept go to
    `cache`, which runs share.
    """

    def __init__(
        self,
        folder: Path,
        *,
        image: ImageSpec,
        seed: int,
        keep: int,
        display: Display,
        cache: Path,
        scalars: ScalarLog | None = None,
    ) -> None:
        self.folder = folder
        self.image = image
        self.seed = seed
        self._newest = keep
        self.display = display
        self.cache = cache
        self.scalars = scalars
        self._losses = LossTable(folder / "loss.csv")
        self._started = 0.0
        self._seconds_before = 0.0
        self.resumed_at = 0
        self.notes: dict[str, dict[str, float | str]] = {}

    @property
    def seconds(self) -> float:
        """Time spent training, interrupted runs included up to their last checkpoint."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def restore(self) -> Mapping[str, Tensor] | None:
        """The newest checkpoint, or None.

        Raises:
            IntegrityError: it is damaged.
        """
        found = checkpoint_files(self.folder)
        if not found:
            self._losses.rewind(0)
            return None
        state = read_checkpoint(found[-1])
        if (self.folder / NOTES).exists():
            self.notes = json.loads((self.folder / NOTES).read_text(encoding="utf-8"))
        self.resumed_at = int(state["step"])
        self._losses.rewind(self.resumed_at)
        self._seconds_before = self._losses.rows[-1]["seconds"] if self._losses.rows else 0.0
        return state

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Write `state`, then drop all but the newest checkpoints, where not all are kept."""
        self._losses.write()
        write_atomic(self.folder / "checkpoints" / f"step-{step:08d}.safetensors", save(dict(state)))
        for old in checkpoint_files(self.folder)[: -self._newest] if self._newest else ():
            old.unlink()

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Show and record the losses of `step`."""
        if not self._started:
            self.display.start(step - 1, total)
            self._started = time.monotonic()
        self.display.update(step, total, values)
        self._losses.add(step, {**values, "seconds": self.seconds})
        if self.scalars is not None:
            for name, value in values.items():
                self.scalars.add_scalar(f"train/{name}", value, step)

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Write a grid with the same seeds every time, one row a class, and the loss curve so far."""
        seeds = {
            name: [derive_seed(self.seed, "preview", label, i) for i in range(PREVIEWS_PER_CLASS)]
            for label, name in enumerate(self.image.classes)
        }
        sheet = class_sheet(self.image, sample, seeds=seeds, side=64)
        write_image(self.folder / "samples" / f"step-{step:08d}.png", sheet)
        self._losses.write()
        self._losses.draw(self.folder / "loss.png")

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """Remember a fact for run.json and config.json, in notes.json over an interruption."""
        self.notes[name] = dict(value)
        write_json_atomic(self.folder / NOTES, self.notes)

    def warn(self, message: str) -> None:
        """Show a warning and keep it, once, in warnings.txt."""
        self.display.warn(message)
        if message not in (known := self.warnings()):
            write_atomic(self.folder / "warnings.txt", "".join(f"{line}\n" for line in [*known, message]).encode())

    def stop_after(self) -> int | None:
        """None: a training run trains to its end."""
        return None

    def warnings(self) -> list[str]:
        """All warnings so far, those before an interruption included."""
        path = self.folder / "warnings.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The tensors in the cache under `key`, as `kept_tensors`."""
        return kept_tensors(self.cache, key, make)


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of the run in `folder`, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*.safetensors"))


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """What a checkpoint holds. Raises: IntegrityError if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "delete it to go on from the one before") from error


def kept_tensors(cache: Path, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The tensors in `cache` under `key`; made and written there the first time, or if the file is damaged."""
    path = cache / f"{key}.safetensors"
    with contextlib.suppress(SafetensorError, FileNotFoundError):
        return load_file(path)
    made = {name: value.detach().cpu().contiguous() for name, value in make().items()}
    make_folder(cache)
    write_atomic(path, save(made))
    return made


class LossTable:
    """loss.csv: one row a step; a run that goes on from a checkpoint drops the rows after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def rewind(self, step: int) -> None:
        """Keep the rows up to `step`."""
        self.rows = []
        if step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                read = csv.DictReader(file)
                self.rows = [{key: float(value) for key, value in row.items() if value} for row in read]
            self.rows = [row for row in self.rows if row["step"] <= step]

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
        """Draw the losses, one panel a stage: each step, and the mean over a fiftieth of the stage."""
        from matplotlib.figure import Figure

        stages = sorted({row.get("stage", 1.0) for row in self.rows})
        figure = Figure(figsize=(7 * len(stages), 4), layout="constrained")
        for stage, axes in zip(stages, figure.subplots(1, len(stages), squeeze=False)[0], strict=True):
            rows = [row for row in self.rows if row.get("stage", 1.0) == stage]
            steps, width = [row["step"] for row in rows], max(1, len(rows) // 50)
            for name, label, colour, pale in LINES:
                losses = [row[name] for row in rows if name in row]
                if len(losses) == len(rows):
                    recent = [losses[max(0, i - width) : i + 1] for i in range(len(losses))]
                    axes.plot(steps, losses, color=pale, linewidth=0.6)
                    axes.plot(steps, [math.fsum(w) / len(w) for w in recent], color=colour, linewidth=1.5, label=label)
            axes.set(xlabel="optimiser step", ylabel=f"training loss (line: mean of {width + 1} steps)")
            if axes.lines:
                axes.legend(frameon=False)
            positive = all(row[name] > 0 for row in rows for name, *_ in LINES if name in row)
            axes.set_yscale("log" if positive else "linear")
            axes.spines[["top", "right"]].set_visible(False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120)
        write_atomic(path, picture.getvalue())
