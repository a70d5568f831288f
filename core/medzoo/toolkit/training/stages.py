"""Training in several stages, which callbacks and checkpoints see as a single run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.training.loop import below, prefixed


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training: `train(run)` trains `network` for `steps` optimizer steps, with `toolkit.training.loop.train`."""

    network: nn.Module
    steps: int
    train: Callable[[StageRun], None]


def train_stages(
    stages: Sequence[Stage],
    *,
    callback: TrainingCallback = TrainingCallback(),
    checkpoints: CheckpointStore = CheckpointStore(),
) -> None:
    """Train each stage's network in turn, up to `callback.max_steps`; a resumed run continues in its stage."""
    state = checkpoints.load_checkpoint()
    current = int(state["stage"]) if state is not None else 0
    for number, stage in enumerate(stages):
        run = StageRun(callback, checkpoints, stages, number, resumed=state if number == current else None)
        if run.max_steps is not None and run.max_steps <= 0:
            return
        if state is not None and number < current:
            # The memory layout of training, because it decides how convolutions round.
            stage.network.to(memory_format=torch.channels_last)
            stage.network.load_state_dict(below(state, f"finished.{number}."))
        else:
            stage.train(run)


class StageRun(TrainingCallback, CheckpointStore):
    """The callback and the checkpoint store of one stage.

    Its steps follow those of the stages before, and its checkpoints contain the networks already trained.
    """

    def __init__(
        self,
        callback: TrainingCallback,
        checkpoints: CheckpointStore,
        stages: Sequence[Stage],
        number: int,
        *,
        resumed: Mapping[str, Tensor] | None,
    ) -> None:
        self._callback = callback
        self._checkpoints = checkpoints
        self._stages = stages
        self._number = number
        self._before = sum(stage.steps for stage in stages[:number])
        self._resumed = resumed
        if callback.max_steps is not None:
            self.max_steps = callback.max_steps - self._before

    def load_checkpoint(self) -> Mapping[str, Tensor] | None:
        """Return the state of this stage, its steps counted from its own beginning."""
        if self._resumed is None:
            return None
        return {**self._resumed, "step": self._resumed["step"] - self._before}

    def save_checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Save this stage's state, the networks of the stages before, and the step after which there are images."""
        whole = {
            **state,
            "step": torch.tensor(self._before + step),
            "stage": torch.tensor(self._number),
            "images_from": torch.tensor(sum(stage.steps for stage in self._stages[:-1])),
        }
        for number, stage in enumerate(self._stages[: self._number]):
            weights = {name: value.contiguous() for name, value in stage.network.state_dict().items()}
            whole |= prefixed(f"finished.{number}.", weights)
        self._checkpoints.save_checkpoint(self._before + step, whole)

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors cached under `key`."""
        return self._checkpoints.cached(key, compute)

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Report the step among all stages' steps, and the stage's number, counted from 1."""
        total = sum(stage.steps for stage in self._stages)
        self._callback.on_step_end(self._before + step, total, {**metrics, "stage": self._number + 1})

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Pass the preview on."""
        self._callback.on_preview(self._before + step, sample)

    def log_metadata(self, name: str, value: Mapping[str, float | str]) -> None:
        """Pass the fact on."""
        self._callback.log_metadata(name, value)

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self._callback.warn(message)
