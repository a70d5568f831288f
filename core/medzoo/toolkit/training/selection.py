"""Which weights of a training run are kept, and when it ends early: by the loss on validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from medzoo.toolkit.classifier_settings import RecipeSettings


class Selection(Protocol):
    """What looks at the network while it is trained; its state is a part of every checkpoint."""

    @property
    def stopped(self) -> bool:
        """Whether training is to end here."""

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Figures of the network after optimizer step `step`, for `on_step_end`."""

    def state(self) -> Mapping[str, Tensor]:
        """What `load` takes back."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""


class EarlyStopping:
    """Keeps the weights of the lowest validation loss, and ends training `patience` measurements after it.

    `measure()` gives figures of the network as it is, "validation_loss" among them.
    """

    def __init__(
        self, network: nn.Module, settings: RecipeSettings, *, measure: Callable[[], Mapping[str, float]]
    ) -> None:
        self._network = network
        self._settings = settings
        self._measure = measure
        self._lowest = float("inf")
        self._since = 0
        self._best: dict[str, Tensor] = {}
        self.best_step = 0

    @property
    def stopped(self) -> bool:
        """Whether training is to end here."""
        return 0 < self._settings.early_stopping_patience <= self._since

    @property
    def lowest(self) -> float:
        """The lowest validation loss so far."""
        return self._lowest

    def evaluate(self, step: int) -> Mapping[str, float]:
        """The figures after optimizer step `step`."""
        values = self._measure()
        if values["validation_loss"] < self._lowest:
            self._lowest, self._since, self.best_step = values["validation_loss"], 0, step
            if self._settings.load_best_model_at_end:
                self._best = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        else:
            self._since += 1
        return values

    def state(self) -> dict[str, Tensor]:
        """What `load` takes back."""
        numbers = torch.tensor([self._lowest, self._since, self.best_step], dtype=torch.float64)
        # A file of tensors takes none in the channels-last order the network works in.
        best = {f"best.{name}": value.contiguous() for name, value in self._best.items()}
        return {"numbers": numbers, **best}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        lowest, since, best_step = state["numbers"].tolist()
        self._lowest, self._since, self.best_step = lowest, int(since), int(best_step)
        self._best = {name.removeprefix("best."): value for name, value in state.items() if name.startswith("best.")}

    def finish(self) -> None:
        """Put the weights of the lowest validation loss back into the network, where they are to be kept."""
        if self._best:
            self._network.load_state_dict(self._best)
