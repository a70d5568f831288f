"""The training loop: accelerate, averaged weights, mixed precision, class balance, early stopping, exact resume.

Every random draw of optimizer step s comes from (seed, s, micro-batch, process), never from a running generator. A run
that starts again from a checkpoint therefore sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medzoo.errors import ResourceError
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import derive_seed, generator, global_draws_from
from medzoo.toolkit.devices import keep_freed_memory, reproducible_kernels, resolve_precision, to_device
from medzoo.toolkit.settings import TrainingSettings
from medzoo.toolkit.training.batches import Batch, loader, vary


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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An optimizer, the factor of the peak learning rate at each step, and the number of steps."""

    optimizer: torch.optim.Optimizer
    learning_rate_factor: Callable[[int], float]
    total: int


class EarlyStopping:
    """Keeps the weights of the lowest validation loss; stops training `patience` evaluations after it, 0 never.

    `evaluate()` returns metrics of the network, "validation_loss" among them. Without `keep_best` no weights are kept.
    Its state is part of every checkpoint.
    """

    def __init__(
        self, network: nn.Module, evaluate: Callable[[], Mapping[str, float]], *, patience: int, keep_best: bool
    ) -> None:
        self._network = network
        self._evaluate = evaluate
        self._patience = patience
        self._keep_best = keep_best
        self._since = 0
        self._best: dict[str, Tensor] = {}
        self.lowest = float("inf")
        self.best_step = 0

    @property
    def stopped(self) -> bool:
        """Whether training should stop."""
        return 0 < self._patience <= self._since

    def evaluate(
        self, step: int, *, agree: Callable[[Mapping[str, float]], Mapping[str, float]] = lambda values: values
    ) -> Mapping[str, float]:
        """Evaluate the network after optimizer step `step`; keep its weights if they are the best.

        `agree` returns what counts of the values that this process found, the same in all processes.
        """
        values = agree(self._evaluate())
        if values["validation_loss"] < self.lowest:
            self.lowest, self._since, self.best_step = values["validation_loss"], 0, step
            if self._keep_best:
                self._best = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        else:
            self._since += 1
        return values

    def state(self) -> dict[str, Tensor]:
        """Return the state for `load`."""
        numbers = torch.tensor([self.lowest, self._since, self.best_step], dtype=torch.float64)
        # Safetensors files need contiguous tensors; the network's are channels-last.
        best = {f"best.{name}": value.contiguous() for name, value in self._best.items()}
        return {"numbers": numbers, **best}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `state`."""
        lowest, since, best_step = state["numbers"].tolist()
        self.lowest, self._since, self.best_step = lowest, int(since), int(best_step)
        self._best = {name.removeprefix("best."): value for name, value in state.items() if name.startswith("best.")}

    def finish(self) -> None:
        """Load the weights of the lowest validation loss into the network, if they were kept."""
        if self._best:
            self._network.load_state_dict(self._best)


def train(
    network: nn.Module,
    loss: Loss | AdversarialLoss,
    data: LabeledImages,
    settings: TrainingSettings,
    *,
    seed: int,
    callback: TrainingCallback = TrainingCallback(),
    checkpoints: CheckpointStore = CheckpointStore(),
    sample: Callable[[Sequence[int], Tensor], Tensor] | None = None,
    weights_changed: Callable[[], None] = lambda: None,
    monitor: Callable[[int], None] = lambda step: None,
    discriminator: Discriminator | None = None,
    recipe: Recipe | None = None,
    early_stopping: EarlyStopping | None = None,
) -> None:
    """Train `network` in place, up to `callback.max_steps`; afterwards it holds the averaged (EMA) weights.

    It stays in training mode: call `network.eval()` before sampling. Parameters are averaged, buffers are not:
    batch-norm statistics are those of the last step.

    Args:
        network: a module on the device to train on. Only its `forward` is called, by `loss`.
        loss: a `Loss`; with a `discriminator` an `AdversarialLoss`.
        data: uint8 images (C, H, W), which are varied as `settings` say, or float32 values of any shape, which are
            taken as they are.
        settings: length, optimizer, augmentation and checkpoints.
        seed: seeds the order of images and every random draw.
        callback: called after each step, and every `validation_epochs` epochs for previews.
        checkpoints: where training resumes from, and saves its state every `checkpointing_steps` steps.
        sample: `sample(seeds, labels)` generates preview images (N, C, H, W) in [0, 1] from the network, if given.
        weights_changed: called whenever the network's weights were exchanged, as averaged ones are for a preview.
        monitor: called with the step before each preview, the averaged weights in place.
        discriminator: a second network, trained against the first.
        recipe: replaces AdamW and the schedule of `settings`.
        early_stopping: replaces previews: it evaluates the network, its averaged weights in place, every
            `validation_epochs` epochs, and may end training.

    Raises:
        ResourceError: a loss or a weight is not finite, or there is no compiler for `settings.compile`.
        ConfigError: the batch size is not divisible into processes and micro-batches.
    """
    keep_freed_memory()
    run = _Run(network, settings, length=len(data), seed=seed, discriminator=discriminator, recipe=recipe)
    restored = checkpoints.load_checkpoint()
    if restored is not None:
        run.load(restored)
        run.saved = run.step
        if early_stopping is not None:
            early_stopping.load(below(restored, "selection."))
    end = run.total if callback.max_steps is None else min(callback.max_steps, run.total)
    batches = run.batches(data, range(run.step, end))
    with reproducible_kernels(), warnings.catch_warnings():
        # diffusers asks a cached function for torch's version, which compiles to the right constant
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        while run.step < end and not (early_stopping is not None and early_stopping.stopped):
            values = run.optimize(loss, batches)
            last = run.step == end
            due = run.step % (settings.validation_epochs * run.steps_per_epoch) == 0
            if due or last or run.step % settings.checkpointing_steps == 0:
                run.check_weights()  # before anything of them is shown or saved
            if early_stopping is not None and (due or run.step == run.total):
                with run.averaged(weights_changed):
                    values |= early_stopping.evaluate(run.step, agree=run.of_main_process)
                run.check_values({"validation_loss": values["validation_loss"]})
                last = last or early_stopping.stopped
            if run.accelerator.is_main_process:
                callback.on_step_end(run.step, run.total, values)
                if early_stopping is None and (due or last):
                    with run.averaged(weights_changed):
                        monitor(run.step)
                        if sample is not None:
                            callback.on_preview(run.step, run.finite(sample))
                if run.step % settings.checkpointing_steps == 0 or last:
                    own = {} if early_stopping is None else early_stopping.state()
                    checkpoints.save_checkpoint(run.step, run.state() | prefixed("selection.", own))
                    run.saved = run.step
    run.accelerator.wait_for_everyone()
    if run.average is not None:
        run.average.copy_to(network.parameters())
    weights_changed()
    if run.device.type == "cuda":  # elsewhere there is no cache to empty, and collecting garbage takes long
        run.accelerator.free_memory()


def steps_of(length: int, settings: TrainingSettings) -> int:
    """Return the optimizer steps that training on `length` images takes: `epochs` times the batches per epoch."""
    return settings.epochs * math.ceil(length / settings.batch_size)


def make_optimizer(network: nn.Module, settings: TrainingSettings, kind: str = "adamw") -> torch.optim.Optimizer:
    """Return the optimizer "sgd", "adam" or "adamw" of `network`'s trainable weights."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    rate, decay, betas = settings.learning_rate, settings.weight_decay, (settings.beta1, settings.beta2)
    if kind == "sgd":  # not fused: on a CPU that copies gradients not laid out as their weights
        return torch.optim.SGD(trained, lr=rate, momentum=settings.beta1, weight_decay=decay)
    if kind == "adam":
        return torch.optim.Adam(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return torch.optim.AdamW(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` under names that start with `prefix`."""
    return {prefix + name: value for name, value in tensors.items()}


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class _Run:
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
        from accelerate import Accelerator, PartialState
        from accelerate.state import AcceleratorState
        from accelerate.utils import TorchDynamoPlugin
        from diffusers.training_utils import EMAModel

        if settings.compile:
            _require_compiler()
        # The network's device, such as cuda:1, is not always that of accelerate, which knows one of each kind.
        self.device = device = next(network.parameters()).device
        precision = resolve_precision(settings.mixed_precision, device)
        AcceleratorState._reset_state()  # its precision is one per process, a run's is its own
        processes = PartialState(cpu=device.type == "cpu")
        if processes.num_processes == 1 and processes.device.type != device.type:
            PartialState._reset_state()  # an earlier run of this process was on another kind of device
        self.accelerator: Any = Accelerator(
            cpu=device.type == "cpu",
            device_placement=False,
            mixed_precision="no" if precision == "fp32" else precision,
            gradient_accumulation_steps=settings.gradient_accumulation_steps,
            # Static, as all batches of a run are alike; else a model's second stage would be compiled for any shape, as
            # the first one had another, which fails for some networks.
            dynamo_plugin=TorchDynamoPlugin(backend="inductor" if settings.compile else "no", dynamic=False),
        )
        self.settings = settings
        self.seed = seed
        self.step = 0
        self.saved = 0  # the step of the newest checkpoint
        self._ahead: list[tuple[Batch, torch.Generator]] = []
        self.steps_per_epoch = math.ceil(length / settings.batch_size)
        self.total = recipe.total if recipe is not None else steps_of(length, settings)
        self.raw = network
        self.train_state = _TrainState(
            network,
            recipe or _default_recipe(network, settings, total=self.total),
            learning_rate=settings.learning_rate,
            prefixes=("network.", "optimizer."),
            accelerator=self.accelerator,
        )
        self.average: Any = None
        if settings.ema_decay > 0:
            self.average = EMAModel(network.parameters(), decay=settings.ema_decay, foreach=True)
        self.discriminator = discriminator
        self.discriminator_state: _TrainState | None = None
        if discriminator is not None:
            self.discriminator_state = _TrainState(
                discriminator.network,
                _default_recipe(discriminator.network, settings, total=self.total),
                learning_rate=discriminator.learning_rate,
                prefixes=("adversary.", "adversary_optimizer."),
                accelerator=self.accelerator,
            )

    def batches(self, data: LabeledImages, steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Return this process's micro-batches of `steps`. Raises: as `loader`."""
        accelerator = self.accelerator
        rank, world = int(accelerator.process_index), int(accelerator.num_processes)
        per_epoch = self.steps_per_epoch
        return iter(
            loader(
                data,
                self.settings,
                steps=steps,
                steps_per_epoch=per_epoch,
                rank=rank,
                world=world,
                seed=self.seed,
                pin_memory=self.device.type == "cuda",
            )
        )

    def optimize(self, loss: Loss | AdversarialLoss, batches: Iterator[tuple[Tensor, ...]]) -> dict[str, float]:
        """Take one optimizer step; return both losses ("loss", "adversary"), their terms, and "learning_rate"."""
        pairs = self._ahead or self._next(batches)
        of_discriminator: list[Mapping[str, Tensor]] = []
        if self.discriminator is not None and self.discriminator_state is not None:
            own = [(batch, self._draws("adversary", micro)) for micro, (batch, _) in enumerate(pairs)]
            of_discriminator = self._update(
                self.discriminator_state, self.discriminator.loss, own, other=self.train_state
            )
        of_network = self._update(self.train_state, loss, pairs, other=self.discriminator_state)
        learning_rate = self.train_state.optimizer.param_groups[0]["lr"]
        self.step += 1
        if self.average is not None:
            self.average.step(self.raw.parameters())
        self._ahead = self._next(batches)  # while a GPU computes this step: its losses, read below, wait for that
        terms, adversary = self._means(of_network, of_discriminator)
        values = {"loss": sum(terms.values()), **terms}
        if self.discriminator is not None:
            values |= {"adversary": sum(adversary.values()), **adversary}
        values["learning_rate"] = learning_rate
        self.check_values(values)
        return values

    def _next(self, batches: Iterator[tuple[Tensor, ...]]) -> list[tuple[Batch, torch.Generator]]:
        """Return the micro-batches of the next step with their draws; none after the last step."""
        pairs: list[tuple[Batch, torch.Generator]] = []
        for micro in range(self.settings.gradient_accumulation_steps):
            if (given := next(batches, None)) is None:
                break
            random = self._draws("step", micro)
            pairs.append((self._prepare(given, random), random))
        return pairs

    def _means(self, *updates: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
        """Return the mean terms of each update over its micro-batches; a GPU is waited for once."""
        scalars = [value.reshape(()) for update in updates for terms in update for value in terms.values()]
        values = iter(torch.stack(scalars).tolist() if scalars else ())
        means: list[dict[str, float]] = []
        for update in updates:
            totals: dict[str, float] = {}
            for terms in update:
                for name in terms:
                    totals[name] = totals.get(name, 0.0) + next(values) / self.settings.gradient_accumulation_steps
            means.append(totals)
        return means

    def check_values(self, values: Mapping[str, float]) -> None:
        """Raise ResourceError unless all of a step's losses are finite numbers."""
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            raise self._diverged(f"{wrong[0]} is {values[wrong[0]]}")

    def check_weights(self) -> None:
        """Raise ResourceError unless all weights, averaged ones included, are finite numbers."""
        trained: Iterator[tuple[str, Tensor]] = itertools.chain.from_iterable(
            state.raw.named_parameters() for state in self._train_states()
        )
        tensors = [*trained, *self._averages().items()]
        finite = torch.stack([torch.isfinite(value).all() for _, value in tensors]).tolist()
        for (name, _), good in zip(tensors, finite, strict=True):
            if not good:
                raise self._diverged(f"the weights {name} are not finite")

    def of_main_process(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the main process's `values` in every process; their batch-norm statistics, so their losses, differ.

        A process that stopped training alone would leave the others waiting for its gradients.
        """
        if self.accelerator.num_processes == 1:
            return values
        from accelerate.utils import broadcast_object_list

        agreed: Mapping[str, float] = broadcast_object_list([values])[0]
        return agreed

    def finite(self, sample: Callable[[Sequence[int], Tensor], Tensor]) -> Callable[[Sequence[int], Tensor], Tensor]:
        """Return `sample` with a check of its images: finite weights may still be too large to compute with."""

        def checked(seeds: Sequence[int], labels: Tensor) -> Tensor:
            images = sample(seeds, labels)
            if not bool(torch.isfinite(images).all()):
                raise self._diverged("sampled images are not finite")
            return images

        return checked

    def _diverged(self, what: str) -> ResourceError:
        last = f"the last good checkpoint is of step {self.saved}" if self.saved else "no checkpoint was saved before"
        return ResourceError(
            f"training diverged: {what} at step {self.step}; {last}",
            f"train in another folder with a lower training.learning_rate (now {self.settings.learning_rate:g}), "
            "or with training.mixed_precision=fp32",
        )

    def _draws(self, stream: str, micro: int) -> torch.Generator:
        return generator(self.seed, stream, self.step, micro, self.accelerator.process_index)

    def _update(
        self,
        trained: _TrainState,
        loss: Callable[..., Mapping[str, Tensor]],
        batches: Sequence[tuple[Batch, torch.Generator]],
        *,
        other: _TrainState | None,
    ) -> list[Mapping[str, Tensor]]:
        """Update one network on all micro-batches and return the terms of each, on the device.

        `loss` is called with the `other` network too if there is one.
        """
        accelerator, settings = self.accelerator, self.settings
        trained.network.train()
        trained.set_learning_rate(self.step + 1)
        found: list[Mapping[str, Tensor]] = []
        stream = "layers" if trained is self.train_state else "adversary layers"
        others = () if other is None else (other.unsynced,)
        with other.frozen() if other is not None else contextlib.nullcontext():
            for micro, (batch, random) in enumerate(batches):
                layers = derive_seed(self.seed, stream, self.step, micro, accelerator.process_index)
                with accelerator.accumulate(trained.network), global_draws_from(layers, self.device):
                    terms = loss(trained.network, *others, batch, random)
                    if not terms:
                        continue
                    accelerator.backward(torch.stack(list(terms.values())).sum())
                    if accelerator.sync_gradients and settings.max_grad_norm > 0:
                        accelerator.clip_grad_norm_(trained.network.parameters(), settings.max_grad_norm)
                    trained.optimizer.step()
                    trained.optimizer.zero_grad()
                found.append({name: value.detach() for name, value in terms.items()})
        return found

    def _prepare(self, batch: tuple[Tensor, ...], random: torch.Generator) -> Batch:
        settings = self.settings
        images, labels, *weights = (to_device(part, self.device) for part in batch)
        if images.dtype == torch.uint8:
            images = images.float() / 255.0
            images = vary(images, flip=settings.horizontal_flip, jitter=settings.color_jitter, random=random)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(images, labels, self.step, *weights)

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
        state = {name: value for trained in self._train_states() for name, value in trained.state().items()}
        state |= prefixed("average.", self._averages())
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            state |= {f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaler.items()}
        state["step"] = torch.tensor(self.step)
        state["epoch"] = torch.tensor(self.step / self.steps_per_epoch)
        return {name: value.detach().contiguous() for name, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `state`."""
        self.step = int(state["step"])
        for trained in self._train_states():
            trained.load(state)
        for name, shadow in self._averages().items():
            shadow.data.copy_(state[f"average.{name}"])
        if self.average is not None:
            self.average.optimization_step = self.step
        if self.accelerator.scaler is not None:
            scaler = {key: value.item() for key, value in below(state, "scaler.").items()}
            scaler["growth_interval"] = int(scaler["growth_interval"])
            scaler["_growth_tracker"] = int(scaler["_growth_tracker"])
            self.accelerator.scaler.load_state_dict(scaler)

    def _averages(self) -> dict[str, Tensor]:
        """Return the averaged weights by name; none without averaging."""
        if self.average is None:
            return {}
        names = (name for name, _ in self.raw.named_parameters())
        return dict(zip(names, self.average.shadow_params, strict=True))

    def _train_states(self) -> list[_TrainState]:
        return [state for state in (self.train_state, self.discriminator_state) if state is not None]


class _TrainState:
    """A network in training and its optimizer, stored under `prefixes` in checkpoints.

    Its own loss calls `network`; the other network's loss calls `unsynced`.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, *, learning_rate: float, prefixes: tuple[str, str], accelerator: Any
    ) -> None:
        network.to(memory_format=torch.channels_last)
        self.raw = network
        self._learning_rate = learning_rate
        self._factor = recipe.learning_rate_factor
        self._prefixes = prefixes
        self._accelerator = accelerator
        self.network, self.optimizer = accelerator.prepare(_Wrapped(network), recipe.optimizer)

    @functools.cached_property
    def unsynced(self) -> nn.Module:
        """The network in its mixed precision, without gradient synchronization between processes."""
        unsynced: nn.Module = self._accelerator.prepare_model(_Wrapped(self.raw), evaluation_mode=True)
        return unsynced.train()

    def set_learning_rate(self, step: int) -> None:
        """Set the learning rate of optimizer step `step`, counted from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate * self._factor(step)

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

    def state(self) -> dict[str, Tensor]:
        """Return the network's tensors, and the optimizer's as "parameter index.name"."""
        moments = self.optimizer.state_dict()["state"]
        flat = {f"{i}.{key}": torch.as_tensor(value) for i, own in moments.items() for key, value in own.items()}
        network, optimizer = self._prefixes
        return prefixed(network, self.raw.state_dict()) | prefixed(optimizer, flat)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load what `state` returned."""
        network, optimizer = self._prefixes
        self.raw.load_state_dict(below(state, network))
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in below(state, optimizer).items():
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


def _default_recipe(network: nn.Module, settings: TrainingSettings, *, total: int) -> Recipe:
    """Return AdamW and the schedule of `settings`, which is stateless, so there is nothing to resume."""
    from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

    optimizer, warmup = make_optimizer(network, settings), min(settings.warmup_steps, total)
    if settings.lr_scheduler == "cosine":
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    else:
        schedule = get_constant_schedule_with_warmup(optimizer, warmup)
    return Recipe(optimizer=optimizer, learning_rate_factor=schedule.lr_lambdas[0], total=total)


def _require_compiler() -> None:
    candidates = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(map(shutil.which, candidates)):
        raise ResourceError(
            f"training.compile needs a C++ compiler, and {' or '.join(candidates)} is not found",
            "install one, or leave training.compile out",
        )
