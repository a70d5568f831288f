"""A callback and checkpoint store that records everything, and checks it as core would."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.testing.suite import expect

_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


class RecordingCallback(TrainingCallback, CheckpointStore):
    """Records every call of `fit`; `kept` holds the cached tensors that the fits of one model share.

    `restored` is the checkpoint to resume from, `stop` the step to stop after; `check_preview` is called with the
    `sample` of each preview.
    """

    def __init__(
        self,
        kept: dict[str, dict[str, Tensor]] | None = None,
        *,
        restored: Mapping[str, Tensor] | None = None,
        stop: int | None = None,
        check_preview: Callable[[Callable[[Sequence[int], Tensor], Tensor]], None] = lambda sample: None,
    ) -> None:
        self.kept = {} if kept is None else kept
        self.restored = restored
        self.max_steps = stop
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.checkpoints: list[tuple[int, int, dict[str, Tensor]]] = []
        self.check_preview = check_preview
        self.previews = 0
        self.notes: dict[str, dict[str, float | str]] = {}
        self.warnings: list[str] = []
        self._made: set[str] = set()

    def load_checkpoint(self) -> Mapping[str, Tensor] | None:
        """Return the checkpoint to resume from, if there is one."""
        return self.restored

    def save_checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Record a copy of `state`."""
        total = self.steps[-1][1] if self.steps else step
        self.checkpoints.append((step, total, _copied(state, "a checkpoint")))

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Record the step and its metrics."""
        self.steps.append((step, total, {name: float(value) for name, value in metrics.items()}))

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Count and check the previews."""
        self.check_preview(sample)
        self.previews += 1

    def log_metadata(self, name: str, value: Mapping[str, float | str]) -> None:
        """Record a fact, which must be valid JSON."""
        bad = [key for key, entry in value.items() if not isinstance(entry, float | int | str)]
        bad += [key for key, entry in value.items() if isinstance(entry, float) and not math.isfinite(entry)]
        wrong = bad[0] if bad else ""
        expect(not bad, f"expected texts and finite numbers in the metadata '{name}', but '{wrong}' is neither")
        self.notes[name] = dict(value)

    def warn(self, message: str) -> None:
        """Record a warning, which must be one line."""
        expect(len(message.splitlines()) == 1, f"expected a warning of one line, got {message!r}")
        self.warnings.append(message)

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return copies of the tensors first computed for `key`; every fit must compute the same."""
        expect(_KEY.fullmatch(key) is not None, f"expected a key of letters, digits, '-' and '_', got {key!r}")
        if key not in self._made:
            made = _copied(compute(), "what is cached")
            first = self.kept.setdefault(key, made)
            same = first.keys() == made.keys() and all(torch.equal(first[name], made[name]) for name in first)
            expect(same, f"expected a key that distinguishes tensors, '{key}' stood for others before")
            self._made.add(key)
        return _copied(self.kept[key], "what is cached")

    def unfinished(self) -> list[tuple[int, dict[str, Tensor]]]:
        """Return steps and states of the checkpoints before the last step."""
        return [(step, state) for step, total, state in self.checkpoints if step < total]


def _copied(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Copy `tensors` as a file would return them: on the CPU, without gradients."""
    strange = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    expect(not strange, f"expected tensors in {where}, but '{strange[0] if strange else ''}' is not one")
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}
