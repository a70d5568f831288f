"""Selection of the best weights and early stopping, by the loss on validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from medzoo.toolkit.classifier_settings import RecipeSettings


class Selection(Protocol):
    """Evaluates the network during training; its state is part of every checkpoint."""

    @property
    def stopped(self) -> bool:
        """Return whether training should stop."""

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return metrics of the network after optimizer step `step`, for `on_step_end`."""

    def state(self) -> Mapping[str, Tensor]:
        """Return the state for `load`."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `state`."""


class EarlyStopping:
    """Keeps the weights of the lowest validation loss; may stop `early_stopping_patience` evaluations after it.

    `evaluate()` returns metrics of the network, "validation_loss" among them.
    """

    def __init__(
        self, network: nn.Module, settings: RecipeSettings, *, evaluate: Callable[[], Mapping[str, float]]
    ) -> None:
        self._network = network
        self._settings = settings
        self._evaluate = evaluate
        self._lowest = float("inf")
        self._since = 0
        self._best: dict[str, Tensor] = {}
        self.best_step = 0

    @property
    def stopped(self) -> bool:
        """Return whether training should stop."""
        return 0 < self._settings.early_stopping_patience <= self._since

    @property
    def lowest(self) -> float:
        """Return the lowest validation loss so far."""
        return self._lowest

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Evaluate the network after optimizer step `step`; keep its weights if they are the best."""
        values = self._evaluate()
        if values["validation_loss"] < self._lowest:
            self._lowest, self._since, self.best_step = values["validation_loss"], 0, step
            if self._settings.load_best_model_at_end:
                self._best = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        else:
            self._since += 1
        return values

    def state(self) -> dict[str, Tensor]:
        """Return the state for `load`."""
        numbers = torch.tensor([self._lowest, self._since, self.best_step], dtype=torch.float64)
        # Safetensors files need contiguous tensors; the network's are channels-last.
        best = {f"best.{name}": value.contiguous() for name, value in self._best.items()}
        return {"numbers": numbers, **best}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `state`."""
        lowest, since, best_step = state["numbers"].tolist()
        self._lowest, self._since, self.best_step = lowest, int(since), int(best_step)
        self._best = {name.removeprefix("best."): value for name, value in state.items() if name.startswith("best.")}

    def finish(self) -> None:
        """Load the weights of the lowest validation loss into the network, if they were kept."""
        if self._best:
            self._network.load_state_dict(self._best)
