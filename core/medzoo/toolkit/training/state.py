"""The state of a training run: networks, optimizers, averaged weights, and all of it as tensors for a checkpoint."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medzoo.errors import ResourceError
from medzoo.seeds import derive_seed, generator, global_draws_from
from medzoo.toolkit.devices import resolve_precision
from medzoo.toolkit.settings import TrainingSettings
from medzoo.toolkit.training.batches import Batch, vary
from medzoo.toolkit.training.optimizers import Recipe


class Loss(Protocol):
    """The loss of a network on a batch: called as `loss(network, batch, random)`.

    Three rules make mixed precision, compilation, several processes and exact resume work whatever the loss is:

    - `network` is called, with positional arguments, and nothing else is done with it. It is a wrapper around the
      module that was given to `train` and has none of its other methods, so the module's `forward` has to return all
      that the loss needs. Its outputs are float32, whatever precision it computes in.
    - Every random draw comes from `random`, a generator on the CPU that follows from the seed and the step:
      `torch.randn(shape, generator=random).to(batch.images.device)`. Layers that draw by themselves, as dropout does,
      are seeded likewise.
    - Nothing is remembered from one call to the next, for a checkpoint would not hold it. What changes over time is a
      function of `batch.step`.
    """

    def __call__(self, network: nn.Module, batch: Batch, random: torch.Generator, /) -> Mapping[str, Tensor]:
        """Return the terms by name, scalars with gradients, each times its weight; training minimizes their sum.

        Names are columns of the run's loss table, beside "loss", their sum, and "learning_rate".
        """


class AdversarialLoss(Protocol):
    """The loss of one of two adversarial networks: called as `loss(network, other, batch, random)`.

    `network` is the one that is updated. The rules of `Loss` hold for both; no gradient reaches the weights of
    `other`.
    """

    def __call__(
        self, network: nn.Module, other: nn.Module, batch: Batch, random: torch.Generator, /
    ) -> Mapping[str, Tensor]:
        """Return the terms by name, as a `Loss` does; none to skip this update."""


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    """A discriminator, updated before the trained network on each batch (Goodfellow et al. 2014).

    `loss(discriminator, network, batch, random)` generates the network's images without gradient. `learning_rate` is
    the discriminator's peak learning rate; its other optimizer settings are the trained network's.
    """

    network: nn.Module
    loss: AdversarialLoss
    learning_rate: float


def steps_of(length: int, settings: TrainingSettings) -> int:
    """Return the optimizer steps that training on `length` images takes: `epochs` times the batches per epoch."""
    return settings.epochs * math.ceil(length / settings.batch_size)


class TrainState:
    """A network in training and its optimizer.

    Its own loss calls `network`; the other network's loss calls `unsynced`.
    """

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
        self.network, self.optimizer = accelerator.prepare(_Wrapped(network), optimizer)
        self._accelerator = accelerator
        self._unsynced: nn.Module | None = None

    @property
    def unsynced(self) -> nn.Module:
        """Return the network in its mixed precision, without gradient synchronization between processes."""
        if self._unsynced is None:
            unsynced: nn.Module = self._accelerator.prepare_model(_Wrapped(self.raw), evaluation_mode=True)
            self._unsynced = unsynced.train()
        return self._unsynced

    def set_rate(self, step: int) -> None:
        """Set the learning rate of optimizer step `step`, counted from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self._rate_factor(step)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let gradients pass through the network without collecting any for its weights."""
        trained = [parameter for parameter in self.raw.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the network's tensors, and the optimizer's as "parameter index.name"."""
        moments = self.optimizer.state_dict()["state"]
        flat = {f"{i}.{key}": torch.as_tensor(value) for i, own in moments.items() for key, value in own.items()}
        return self.raw.state_dict(), flat

    def load(self, network: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """Load what `state` returned."""
        self.raw.load_state_dict(network)
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in optimizer.items():
            index, _, key = name.partition(".")
            like = parameters[int(index)]
            # A fused optimizer walks memory in order, so moments need the strides of their parameter.
            ordered = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(int(index), {})[key] = ordered
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


class _Wrapped(nn.Module):
    """A module for accelerate to wrap, so that mixed precision replaces `forward` here, not on the network itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """Return the network's output."""
        return self.network(*inputs)


class Run:
    """A training run: one optimizer step at a time, and its state as tensors."""

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingSettings,
        *,
        length: int,
        seed: int,
        discriminator: Discriminator | None,
        recipe: Recipe | None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers.training_utils import EMAModel

        if settings.compile:
            _require_compiler()
        device = next(network.parameters()).device
        precision = resolve_precision(settings.mixed_precision, device)
        AcceleratorState._reset_state()  # its precision is one per process, a run's is its own
        self.accelerator: Any = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            gradient_accumulation_steps=settings.gradient_accumulation_steps,
            dynamo_backend="inductor" if settings.compile else "no",
        )
        self.settings = settings
        self.seed = seed
        self.step = 0
        self.steps_per_epoch = math.ceil(length / settings.batch_size)
        self.total = recipe.total if recipe is not None else steps_of(length, settings)
        self.raw = network
        self.train_state = self._train_state(network, recipe or self._recipe(network), rate=settings.learning_rate)
        self.average: Any = None
        if settings.ema_decay > 0:
            self.average = EMAModel(network.parameters(), decay=settings.ema_decay, foreach=True)
        self.discriminator = discriminator
        self.discriminator_state: TrainState | None = None
        if discriminator is not None:
            own = self._recipe(discriminator.network)
            self.discriminator_state = self._train_state(discriminator.network, own, rate=discriminator.learning_rate)

    def _recipe(self, network: nn.Module) -> Recipe:
        optimizer, rate_factor = _adamw(network, self.settings, total=self.total)
        return Recipe(optimizer=optimizer, rate_factor=rate_factor, total=self.total)

    def _train_state(self, network: nn.Module, recipe: Recipe, *, rate: float) -> TrainState:
        return TrainState(network, recipe.optimizer, recipe.rate_factor, rate=rate, accelerator=self.accelerator)

    @property
    def world(self) -> int:
        """Return the number of processes that share a batch."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Return the number of this process, counted from 0."""
        return int(self.accelerator.process_index)

    def optimize(self, loss: Loss | AdversarialLoss, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Take one optimizer step; return both losses ("loss", "adversary"), their terms, and "learning_rate"."""
        pairs: list[tuple[Batch, torch.Generator]] = []
        for micro in range(self.settings.gradient_accumulation_steps):
            random = generator(self.seed, "step", self.step, micro, self.rank)
            pairs.append((self._prepare(next(batches), random), random))
        discriminator_values: dict[str, float] = {}
        if self.discriminator is not None and self.discriminator_state is not None:
            own_draws = (generator(self.seed, "adversary", self.step, micro, self.rank) for micro in range(len(pairs)))
            own = [(batch, random) for (batch, _), random in zip(pairs, own_draws, strict=True)]
            terms = self._update(self.discriminator_state, self.discriminator.loss, own, other=self.train_state)
            discriminator_values = {"adversary": sum(terms.values()), **terms}
        terms = self._update(self.train_state, loss, pairs, other=self.discriminator_state)
        values = {
            "loss": sum(terms.values()),
            **terms,
            **discriminator_values,
            "learning_rate": self.train_state.optimizer.param_groups[0]["lr"],
        }
        self.step += 1
        if self.average is not None:
            self.average.step(self.raw.parameters())
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            raise ResourceError(
                f"training diverged: {wrong[0]} is {values[wrong[0]]} at step {self.step}",
                "lower training.learning_rate, or set training.mixed_precision=fp32",
            )
        return values

    def _update(
        self,
        trained: TrainState,
        loss: Callable[..., Mapping[str, Tensor]],
        batches: Sequence[tuple[Batch, torch.Generator]],
        *,
        other: TrainState | None,
    ) -> dict[str, float]:
        """Update one network on all micro-batches and return the means of its terms.

        `loss` is called with the `other` network too if there is one.
        """
        trained.network.train()
        trained.set_rate(self.step + 1)
        totals: dict[str, float] = {}
        stream = "layers" if trained is self.train_state else "adversary layers"
        others = () if other is None else (other.unsynced,)
        with other.frozen() if other is not None else contextlib.nullcontext():
            for micro, (batch, random) in enumerate(batches):
                layers = derive_seed(self.seed, stream, self.step, micro, self.rank)
                with (
                    self.accelerator.accumulate(trained.network),
                    global_draws_from(layers, self.accelerator.device),
                ):
                    terms = loss(trained.network, *others, batch, random)
                    if not terms:
                        continue
                    self.accelerator.backward(torch.stack(list(terms.values())).sum())
                    if self.accelerator.sync_gradients and self.settings.max_grad_norm > 0:
                        self.accelerator.clip_grad_norm_(trained.network.parameters(), self.settings.max_grad_norm)
                    trained.optimizer.step()
                    trained.optimizer.zero_grad()
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0.0) + value.item() / self.settings.gradient_accumulation_steps
        return totals

    def _prepare(self, batch: tuple[Tensor, Tensor], random: torch.Generator) -> Batch:
        images, labels = (part.to(self.accelerator.device) for part in batch)
        if images.dtype == torch.uint8:
            images = vary(
                images.float() / 255.0,
                flip=self.settings.horizontal_flip,
                jitter=self.settings.color_jitter,
                random=random,
            )
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(images, labels, self.step)

    @contextlib.contextmanager
    def averaged(self, weights_changed: Callable[[], None]) -> Iterator[None]:
        """Put the averaged weights, if there are any, into the network for the duration of the context."""
        if self.average is None:
            yield
            return
        self.average.store(self.raw.parameters())
        self.average.copy_to(self.raw.parameters())
        weights_changed()
        yield
        self.average.restore(self.raw.parameters())
        weights_changed()

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, by name, for `load`."""
        state: dict[str, Tensor] = {}
        for trained, network_prefix, optimizer_prefix in self._stored():
            network, optimizer = trained.state()
            state |= {f"{network_prefix}.{name}": value for name, value in network.items()}
            state |= {f"{optimizer_prefix}.{name}": value for name, value in optimizer.items()}
        state |= {f"average.{name}": value for name, value in self._averages()}
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            state |= {f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaler.items()}
        state["step"] = torch.tensor(self.step)
        state["epoch"] = torch.tensor(self.step / self.steps_per_epoch)
        return {name: value.detach().contiguous() for name, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `state`."""
        self.step = int(state["step"])
        for trained, network_prefix, optimizer_prefix in self._stored():
            trained.load(below(state, f"{network_prefix}."), below(state, f"{optimizer_prefix}."))
        for name, shadow in self._averages():
            shadow.data.copy_(state[f"average.{name}"])
        if self.average is not None:
            self.average.optimization_step = self.step
        if self.accelerator.scaler is not None:
            scaler = {key: value.item() for key, value in below(state, "scaler.").items()}
            scaler["growth_interval"] = int(scaler["growth_interval"])
            scaler["_growth_tracker"] = int(scaler["_growth_tracker"])
            self.accelerator.scaler.load_state_dict(scaler)

    def _averages(self) -> list[tuple[str, Tensor]]:
        """Return the averaged weights by name; none without averaging."""
        if self.average is None:
            return []
        names = (name for name, _ in self.raw.named_parameters())
        return list(zip(names, self.average.shadow_params, strict=True))

    def _stored(self) -> list[tuple[TrainState, str, str]]:
        """Return each network's train state with the prefixes of its network and its optimizer in checkpoints."""
        states = [(self.train_state, "network", "optimizer")]
        if self.discriminator_state is not None:
            states.append((self.discriminator_state, "adversary", "adversary_optimizer"))
        return states


def _adamw(
    network: nn.Module, settings: TrainingSettings, *, total: int
) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """Return AdamW and, for each step, its share of the peak learning rate (stateless, so nothing to resume)."""
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


def _require_compiler() -> None:
    candidates = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(map(shutil.which, candidates)):
        raise ResourceError(
            f"training.compile needs a C++ compiler, and {' or '.join(candidates)} is not found",
            "install one, or leave training.compile out",
        )


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
