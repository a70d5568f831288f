"""A Report that keeps all it is told, and looks at it as core would."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medzoo.testing.contract import expect

_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


class RecordingCallback:
    """A Report that keeps all it is told; `kept` are the tensors that the fits of one model share."""

    def __init__(
        self,
        kept: dict[str, dict[str, Tensor]] | None = None,
        *,
        restored: Mapping[str, Tensor] | None = None,
        stop: int | None = None,
    ) -> None:
        self.kept = {} if kept is None else kept
        self.restored = restored
        self.stop = stop
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.checkpoints: list[tuple[int, int, dict[str, Tensor]]] = []
        self.previews = 0
        self.notes: dict[str, dict[str, float | str]] = {}
        self.warnings: list[str] = []
        self._made: set[str] = set()

    def restore(self) -> Mapping[str, Tensor] | None:
        """The checkpoint to go on from, if this report was given one."""
        return self.restored

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep a copy of `state`."""
        total = self.steps[-1][1] if self.steps else step
        self.checkpoints.append((step, total, _copied(state, "a checkpoint")))

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Note the step and its values."""
        self.steps.append((step, total, {name: float(value) for name, value in values.items()}))

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Count it."""
        self.previews += 1

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """Remember a fact, which has to be fit for JSON."""
        bad = [key for key, entry in value.items() if not isinstance(entry, float | int | str)]
        bad += [key for key, entry in value.items() if isinstance(entry, float) and not math.isfinite(entry)]
        expect(not bad, f"expected texts and finite numbers in note '{name}', '{bad[0] if bad else ''}' is none")
        self.notes[name] = dict(value)

    def warn(self, message: str) -> None:
        """Remember a warning, which has to be one line."""
        expect(len(message.splitlines()) == 1, f"expected a warning of one line, got {message!r}")
        self.warnings.append(message)

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Copies of the tensors first made for `key`; every fit makes them again, and has to get the same."""
        expect(_KEY.fullmatch(key) is not None, f"expected a key of letters, digits, '-' and '_', got {key!r}")
        if key not in self._made:
            made = _copied(make(), "what is kept")
            first = self.kept.setdefault(key, made)
            same = first.keys() == made.keys() and all(torch.equal(first[name], made[name]) for name in first)
            expect(same, f"expected a key that tells tensors apart, '{key}' stood for others before")
            self._made.add(key)
        return _copied(self.kept[key], "what is kept")

    def unfinished(self) -> list[tuple[int, dict[str, Tensor]]]:
        """Steps and states of the checkpoints before the last step."""
        return [(step, state) for step, total, state in self.checkpoints if step < total]

    def stop_after(self) -> int | None:
        """The step at which this report wants the fit to end, if at any."""
        return self.stop


def _copied(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Copies of `tensors` as a file would give them back: on the CPU, without gradients."""
    strange = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    expect(not strange, f"expected tensors in {where}, '{strange[0] if strange else ''}' is none")
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}
