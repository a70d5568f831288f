"""Several trainings, one after another, that make one model: to a Report they are a single run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from medzoo.protocols import Report
from medzoo.toolkit.training.state import below


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training: `train(report)` trains `network` in `steps` optimiser steps, with `toolkit.training.train`."""

    network: nn.Module
    steps: int
    train: Callable[[Report], None]


def train_stages(stages: Sequence[Stage], *, report: Report) -> None:
    """Train each stage's network in turn, as far as `report` asks; a restored run goes on in the stage it was in."""
    state = report.restore()
    current = int(state["stage"]) if state is not None else 0
    starts = [*accumulate((stage.steps for stage in stages), initial=0)]
    stop = report.stop_after()
    for number, stage in enumerate(stages):
        if stop is not None and stop <= starts[number]:
            return
        if state is not None and number < current:
            # In the layout in which training left it, for that decides how its convolutions round.
            stage.network.to(memory_format=torch.channels_last)
            stage.network.load_state_dict(below(state, f"finished.{number}."))
            continue
        stage.train(
            _StageReport(
                report,
                number=number,
                starts=starts,
                finished=[earlier.network for earlier in stages[:number]],
                restored=state if number == current else None,
            )
        )


class _StageReport:
    """The `Report` of one stage: its steps follow those before, its checkpoints hold the networks already trained."""

    def __init__(
        self,
        report: Report,
        *,
        number: int,
        starts: Sequence[int],
        finished: Sequence[nn.Module],
        restored: Mapping[str, Tensor] | None,
    ) -> None:
        self._report = report
        self._number = number
        self._before = starts[number]
        *_, self._images_from, self._total = starts
        self._finished = finished
        self._restored = restored

    def restore(self) -> Mapping[str, Tensor] | None:
        """The state of this stage, its steps counted from its own beginning."""
        if self._restored is None:
            return None
        return {**self._restored, "step": self._restored["step"] - self._before}

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep this stage's state, the networks of the stages before, and the step after which there are images."""
        whole = {
            **state,
            "step": torch.tensor(self._before + step),
            "stage": torch.tensor(self._number),
            "images_from": torch.tensor(self._images_from),
        }
        for number, network in enumerate(self._finished):
            whole |= {f"finished.{number}.{name}": value.contiguous() for name, value in network.state_dict().items()}
        self._report.checkpoint(self._before + step, whole)

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Tell the step, of all stages' steps, and the stage's number, counted from 1."""
        self._report.progress(self._before + step, self._total, {**values, "stage": self._number + 1})

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Look at what this stage makes."""
        self._report.preview(self._before + step, sample)

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """State a fact about the model."""
        self._report.note(name, value)

    def warn(self, message: str) -> None:
        """Say that something looks wrong."""
        self._report.warn(message)

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The tensors kept under `key`."""
        return self._report.keep(key, make)

    def stop_after(self) -> int | None:
        """The step of this stage after which to stop; below 1 where training should end before this stage."""
        last = self._report.stop_after()
        return None if last is None else last - self._before
