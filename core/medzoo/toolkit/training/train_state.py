"""A network with its optimiser, as the training loop moves it: its turn's rate, its mixed precision, its state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medzoo.toolkit.settings import TrainingSettings


class Player:
    """One network in training. `network` is what its own loss calls, `shown` what another player's loss calls."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rate_factor: Callable[[int], float],
        *,
        rate: float,
        accelerator: Any,
    ) -> None:
        network.to(memory_format=torch.channels_last)
        self.raw = network
        self.rate = rate
        self._rate_factor = rate_factor
        self.network, self.optimizer = accelerator.prepare(_Trained(network), optimizer)
        self._accelerator = accelerator
        self._shown: nn.Module | None = None

    @property
    def shown(self) -> nn.Module:
        """The network in its mixed precision alone: it is not this player's turn, so no gradients are exchanged."""
        if self._shown is None:
            shown: nn.Module = self._accelerator.prepare_model(_Trained(self.raw), evaluation_mode=True)
            self._shown = shown.train()
        return self._shown

    def set_rate(self, step: int) -> None:
        """Set the learning rate of optimiser step `step`, counted from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self._rate_factor(step)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing; inside, gradients pass through the network and none are kept for its weights."""
        trained = [parameter for parameter in self.raw.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The network's tensors, and the optimiser's as "parameter index.name"."""
        moments = self.optimizer.state_dict()["state"]
        flat = {f"{i}.{key}": torch.as_tensor(value) for i, own in moments.items() for key, value in own.items()}
        return self.raw.state_dict(), flat

    def load(self, network: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.raw.load_state_dict(network)
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in optimizer.items():
            index, _, key = name.partition(".")
            like = parameters[int(index)]
            # A fused optimiser walks memory in order, so moments need the strides of their parameter.
            ordered = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(int(index), {})[key] = ordered
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def adamw(
    network: nn.Module, settings: TrainingSettings, *, total: int
) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """AdamW, and the share of the peak rate at each step: no state of its own, so nothing to resume."""
    from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    warmup = min(settings.warmup_steps, total)
    if settings.lr_scheduler == "cosine":
        curve = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    else:
        curve = get_constant_schedule_with_warmup(optimizer, warmup)
    return optimizer, curve.lr_lambdas[0]


class _Trained(nn.Module):
    """A network as accelerate may wrap it: mixed precision replaces `forward` here, and not on the network itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """What the network gives."""
        return self.network(*inputs)
