"""The moving parts of one training run: networks, optimisers, averaged weights, and their state as tensors."""

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
from medzoo.toolkit.training.train_state import Player, adamw


class Loss(Protocol):
    """What a network minimises on a batch: called as `loss(network, batch, random)`.

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
        """The terms by name, scalars with gradients, each times its weight; training minimises their sum.

        Names are columns of the run's loss table, beside "loss", their sum, and "learning_rate".
        """


class OpposedLoss(Protocol):
    """What one of two networks minimises that are trained against each other: `loss(network, other, batch, random)`.

    `network` is the one whose turn it is. The same rules hold for both as for the network of a `Loss`; no gradient
    reaches the weights of `other`.
    """

    def __call__(
        self, network: nn.Module, other: nn.Module, batch: Batch, random: torch.Generator, /
    ) -> Mapping[str, Tensor]:
        """The terms by name, as a `Loss` gives them; none where the turn is to be skipped."""


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """A second network, trained against the first, before it on each batch (Goodfellow et al. 2014).

    `loss(adversary, network, batch, random)` draws the network's images without gradient. `rate` is the adversary's
    peak learning rate; its optimiser is otherwise as the first network's.
    """

    network: nn.Module
    loss: OpposedLoss
    rate: float


def steps_of(length: int, settings: TrainingSettings) -> int:
    """Optimiser steps that training on `length` images takes: `epochs` times the batches of an epoch, rounded up."""
    return settings.epochs * math.ceil(length / settings.batch_size)


class Run:
    """The moving parts of one training run, and their state as tensors."""

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingSettings,
        *,
        length: int,
        seed: int,
        adversary: Adversary | None,
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
        self.player = self._player(network, recipe or self._recipe(network), rate=settings.learning_rate)
        self.average: Any = None
        if settings.ema_decay > 0:
            self.average = EMAModel(network.parameters(), decay=settings.ema_decay, foreach=True)
        self.adversary = adversary
        self.opponent: Player | None = None
        if adversary is not None:
            self.opponent = self._player(adversary.network, self._recipe(adversary.network), rate=adversary.rate)

    def _recipe(self, network: nn.Module) -> Recipe:
        optimizer, rate_factor = adamw(network, self.settings, total=self.total)
        return Recipe(optimizer=optimizer, rate_factor=rate_factor, total=self.total)

    def _player(self, network: nn.Module, recipe: Recipe, *, rate: float) -> Player:
        return Player(network, recipe.optimizer, recipe.rate_factor, rate=rate, accelerator=self.accelerator)

    @property
    def world(self) -> int:
        """Processes that share a batch."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """This process's number among them."""
        return int(self.accelerator.process_index)

    def optimise(self, loss: Loss | OpposedLoss, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Take one optimizer step; return `loss` and `adversary` (sums), their terms, and `learning_rate`."""
        pairs: list[tuple[Batch, torch.Generator]] = []
        for micro in range(self.settings.gradient_accumulation_steps):
            random = generator(self.seed, "step", self.step, micro, self.rank)
            pairs.append((self._prepare(next(batches), random), random))
        opposed: dict[str, float] = {}
        if self.adversary is not None and self.opponent is not None:
            own_draws = (generator(self.seed, "adversary", self.step, micro, self.rank) for micro in range(len(pairs)))
            judged = [(batch, random) for (batch, _), random in zip(pairs, own_draws, strict=True)]
            terms = self._turn(self.opponent, self.adversary.loss, judged, against=self.player)
            opposed = {"adversary": sum(terms.values()), **terms}
        terms = self._turn(self.player, loss, pairs, against=self.opponent)
        values = {
            "loss": sum(terms.values()),
            **terms,
            **opposed,
            "learning_rate": self.player.optimizer.param_groups[0]["lr"],
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

    def _turn(
        self,
        player: Player,
        loss: Callable[..., Mapping[str, Tensor]],
        batches: Sequence[tuple[Batch, torch.Generator]],
        *,
        against: Player | None,
    ) -> dict[str, float]:
        """Make one player's optimiser step on all micro-batches and return its terms' means.

        `loss` is called with the other player's network too where there is one.
        """
        player.network.train()
        player.set_rate(self.step + 1)
        totals: dict[str, float] = {}
        stream = "layers" if player is self.player else "adversary layers"
        others = () if against is None else (against.shown,)
        with against.frozen() if against is not None else contextlib.nullcontext():
            for micro, (batch, random) in enumerate(batches):
                layers = derive_seed(self.seed, stream, self.step, micro, self.rank)
                with (
                    self.accelerator.accumulate(player.network),
                    global_draws_from(layers, self.accelerator.device),
                ):
                    terms = loss(player.network, *others, batch, random)
                    if not terms:
                        continue
                    self.accelerator.backward(torch.stack(list(terms.values())).sum())
                    if self.accelerator.sync_gradients and self.settings.max_grad_norm > 0:
                        self.accelerator.clip_grad_norm_(player.network.parameters(), self.settings.max_grad_norm)
                    player.optimizer.step()
                    player.optimizer.zero_grad()
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
        """Nothing; inside, the network holds its averaged weights, where there are any."""
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
        """Everything that the next step depends on, by name; `load` takes it back."""
        state: dict[str, Tensor] = {}
        for player, network_prefix, optimizer_prefix in self._stored():
            network, optimizer = player.state()
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
        """Go on from `state`."""
        self.step = int(state["step"])
        for player, network_prefix, optimizer_prefix in self._stored():
            player.load(below(state, f"{network_prefix}."), below(state, f"{optimizer_prefix}."))
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
        """The averaged weights by name; none where nothing is averaged."""
        if self.average is None:
            return []
        names = (name for name, _ in self.raw.named_parameters())
        return list(zip(names, self.average.shadow_params, strict=True))

    def _stored(self) -> list[tuple[Player, str, str]]:
        """The players with their prefixes in the state: their network's and their optimiser's."""
        players = [(self.player, "network", "optimizer")]
        if self.opponent is not None:
            players.append((self.opponent, "adversary", "adversary_optimizer"))
        return players


def _require_compiler() -> None:
    candidates = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(map(shutil.which, candidates)):
        raise ResourceError(
            f"training.compile needs a C++ compiler, and {' or '.join(candidates)} is not found",
            "install one, or leave training.compile out",
        )


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
