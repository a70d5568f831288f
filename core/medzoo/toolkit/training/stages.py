"""Training in several stages, which callbacks and checkpoints see as a single run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, TrainingCallback
from medzoo.toolkit.training.state import below


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
    starts = [*accumulate((stage.steps for stage in stages), initial=0)]
    stop = callback.max_steps
    for number, stage in enumerate(stages):
        if stop is not None and stop <= starts[number]:
            return
        if state is not None and number < current:
            # The memory layout of training, because it decides how convolutions round.
            stage.network.to(memory_format=torch.channels_last)
            stage.network.load_state_dict(below(state, f"finished.{number}."))
            continue
        stage.train(
            StageRun(
                callback,
                checkpoints,
                number=number,
                starts=starts,
                finished=[earlier.network for earlier in stages[:number]],
                resumed=state if number == current else None,
            )
        )


class StageRun(TrainingCallback, CheckpointStore):
    """The callback and the checkpoint store of one stage.

    Its steps follow those of the stages before, and its checkpoints contain the networks already trained.
    """

    def __init__(
        self,
        callback: TrainingCallback,
        checkpoints: CheckpointStore,
        *,
        number: int,
        starts: Sequence[int],
        finished: Sequence[nn.Module],
        resumed: Mapping[str, Tensor] | None,
    ) -> None:
        self._callback = callback
        self._checkpoints = checkpoints
        self._number = number
        self._before = starts[number]
        *_, self._images_from, self._total = starts
        self._finished = finished
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
            "images_from": torch.tensor(self._images_from),
        }
        for number, network in enumerate(self._finished):
            whole |= {f"finished.{number}.{name}": value.contiguous() for name, value in network.state_dict().items()}
        self._checkpoints.save_checkpoint(self._before + step, whole)

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors cached under `key`."""
        return self._checkpoints.cached(key, compute)

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Report the step among all stages' steps, and the stage's number, counted from 1."""
        self._callback.on_step_end(self._before + step, self._total, {**metrics, "stage": self._number + 1})

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Pass the preview on."""
        self._callback.on_preview(self._before + step, sample)

    def log_metadata(self, name: str, value: Mapping[str, float | str]) -> None:
        """Pass the fact on."""
        self._callback.log_metadata(name, value)

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self._callback.warn(message)
