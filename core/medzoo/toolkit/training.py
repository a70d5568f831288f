"""The one training loop: accelerate, averaged weights, mixed precision, class balance, exact resume.

Every random draw of optimiser step s comes from (seed, s, micro-batch, process), never from a running generator. A run
that starts again from a checkpoint therefore sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medzoo.errors import ResourceError
from medzoo.protocols import LabelledImages, Report
from medzoo.toolkit.batches import Batch, loader, vary
from medzoo.toolkit.devices import derive_seed, generator, resolve_precision
from medzoo.toolkit.settings import TrainingSettings

Loss = Callable[[nn.Module, Batch, torch.Generator], Mapping[str, Tensor]]
"""Scalar terms whose sum is minimised; the network is called through its first argument only."""


def train(
    network: nn.Module,
    loss: Loss,
    data: LabelledImages,
    settings: TrainingSettings,
    *,
    seed: int,
    report: Report,
    sample: Callable[[Sequence[int], Tensor], Tensor],
    weights_changed: Callable[[], None] = lambda: None,
) -> None:
    """Train `network` in place and leave the averaged (EMA) weights in it.

    `sample` draws preview images from the network; `weights_changed` is called whenever its weights were exchanged.

    Raises:
        ResourceError: the loss is no longer a number, or there is no compiler for `settings.compile`.
    """
    run = _Run(network, settings, length=len(data), seed=seed)
    restored = report.restore()
    if restored is not None:
        run.load(restored)
    batches = iter(
        loader(
            data,
            settings,
            steps=range(run.step, run.total),
            steps_per_epoch=run.steps_per_epoch,
            rank=run.rank,
            world=run.world,
            seed=seed,
        )
    )
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False), warnings.catch_warnings():
        # diffusers asks a cached function for torch's version, which compiles to the right constant
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        while run.step < run.total:
            values = run.optimise(loss, batches)
            last = run.step == run.total
            if run.accelerator.is_main_process:
                report.progress(run.step, run.total, values)
                if run.step % (settings.preview_every * run.steps_per_epoch) == 0 or last:
                    run.with_average(lambda: report.preview(run.step, sample), weights_changed)
                if run.step % settings.checkpoint_every == 0 or last:
                    report.checkpoint(run.step, run.state())
    run.accelerator.wait_for_everyone()
    run.average.copy_to(network.parameters())
    weights_changed()
    run.accelerator.free_memory()


class _Run:
    """The moving parts of one training run, and their state as tensors."""

    def __init__(self, network: nn.Module, settings: TrainingSettings, *, length: int, seed: int) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers.training_utils import EMAModel

        if settings.compile:
            _require_compiler()
        device = next(network.parameters()).device
        precision = resolve_precision(settings.precision, device)
        AcceleratorState._reset_state()  # its precision is one per process, a run's is its own
        self.accelerator: Any = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            gradient_accumulation_steps=settings.accumulate,
            dynamo_backend="inductor" if settings.compile else "no",
        )
        self.settings = settings
        self.seed = seed
        self.step = 0
        self.steps_per_epoch = math.ceil(length / settings.batch_size)
        self.total = settings.epochs * self.steps_per_epoch
        network.to(memory_format=torch.channels_last)
        optimizer, self.rate_factor = _optimizer(network, settings, total=self.total)
        self.average: Any = EMAModel(network.parameters(), decay=settings.ema, foreach=True)
        self.raw = network
        self.network, self.optimizer = self.accelerator.prepare(_Trained(network), optimizer)

    @property
    def world(self) -> int:
        """Processes that share a batch."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """This process's number among them."""
        return int(self.accelerator.process_index)

    def optimise(self, loss: Loss, batches: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Make one optimiser step and return its loss terms, with `loss` their sum and `rate`."""
        rate = self.settings.rate * self.rate_factor(self.step + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        totals: dict[str, float] = {}
        for micro in range(self.settings.accumulate):
            random = generator(self.seed, "step", self.step, micro, self.rank)
            batch = self._prepare(next(batches), random)
            with self.accelerator.accumulate(self.network), self._layers_seeded(micro):
                terms = loss(self.network, batch, random)
                self.accelerator.backward(torch.stack(list(terms.values())).sum())
                if self.accelerator.sync_gradients and self.settings.clip > 0:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.item() / self.settings.accumulate
        self.step += 1
        self.average.step(self.raw.parameters())
        total = sum(totals.values())
        if not math.isfinite(total):
            raise ResourceError(
                f"training diverged: the loss is {total} at step {self.step}",
                "lower training.rate, or set training.precision=fp32",
            )
        return {"loss": total, **totals, "rate": rate}

    @contextlib.contextmanager
    def _layers_seeded(self, micro: int) -> Iterator[None]:
        """Nothing; inside, layers such as dropout, which know only global randomness, draw from this step's seed."""
        device = self.accelerator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self.seed, "layers", self.step, micro, self.rank))
            yield

    def _prepare(self, batch: tuple[Tensor, Tensor], random: torch.Generator) -> Batch:
        images, labels = (part.to(self.accelerator.device) for part in batch)
        images = vary(images.float() / 255.0, flip=self.settings.flip, jitter=self.settings.jitter, random=random)
        return Batch(images.contiguous(memory_format=torch.channels_last), labels)

    def with_average(self, look: Callable[[], None], weights_changed: Callable[[], None]) -> None:
        """Call `look` while the network holds its averaged weights."""
        self.average.store(self.raw.parameters())
        self.average.copy_to(self.raw.parameters())
        weights_changed()
        look()
        self.average.restore(self.raw.parameters())
        weights_changed()

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name; `load` takes it back."""
        names = [name for name, _ in self.raw.named_parameters()]
        state = {f"network.{name}": value for name, value in self.raw.state_dict().items()}
        state |= {f"average.{name}": value for name, value in zip(names, self.average.shadow_params, strict=True)}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            state |= {f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaler.items()}
        state["step"] = torch.tensor(self.step)
        return {name: value.detach().contiguous() for name, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.step = int(state["step"])
        self.raw.load_state_dict(_below(state, "network."))
        for (name, _), shadow in zip(self.raw.named_parameters(), self.average.shadow_params, strict=True):
            shadow.data.copy_(state[f"average.{name}"])
        self.average.optimization_step = self.step
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.raw.parameters())
        for name, value in _below(state, "optimizer.").items():
            index, key = int(name.split(".")[0]), name.split(".")[1]
            like = parameters[index]
            # A fused optimiser walks memory in order, so moments need the strides of their parameter.
            ordered = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(index, {})[key] = ordered
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.accelerator.scaler is not None:
            scaler = {key: value.item() for key, value in _below(state, "scaler.").items()}
            scaler["growth_interval"] = int(scaler["growth_interval"])
            scaler["_growth_tracker"] = int(scaler["_growth_tracker"])
            self.accelerator.scaler.load_state_dict(scaler)


def _optimizer(
    network: nn.Module, settings: TrainingSettings, *, total: int
) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """AdamW, and the share of the peak rate at each step: no state of its own, so nothing to resume."""
    from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    warmup = min(settings.warmup, total)
    if settings.schedule == "cosine":
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


class _Trained(nn.Module):
    """A network as accelerate may wrap it: mixed precision replaces `forward` here, and not on the network itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """What the network gives."""
        return self.network(*inputs)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
