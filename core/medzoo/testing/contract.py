"""Assert what the plugin contract demands, and guard the global random states."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


class ContractError(Exception):
    """The contract was broken; one line says what was expected and what was found."""


def expect(condition: bool, message: str) -> None:
    """Raise ContractError with `message` unless `condition` holds."""
    if not condition:
        raise ContractError(message)


def expect_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    """Raise ContractError unless two state_dicts are equal; `where` describes the second one."""
    differing = sorted(one.keys() ^ other.keys())
    differing += [name for name in one.keys() & other.keys() if not torch.equal(one[name].cpu(), other[name].cpu())]
    names = ", ".join(differing[:3])
    expect(not differing, f"{len(differing)} of {len(one)} weights differ in {where}: {names}")


@contextlib.contextmanager
def global_state_monitored(device: torch.device, touched: set[str], where: str) -> Iterator[None]:
    """Add to `touched` the global random states that change inside the block, and `where` that was."""
    before = global_states(device)
    try:
        yield
    finally:
        after = global_states(device)
        touched |= {f"{name} {where}" for name in before if before[name] != after[name]}


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states of torch, numpy and Python inside the block, and restore them after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=cuda_of(device)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def cuda_of(device: torch.device) -> list[torch.device]:
    """Return the devices beside the CPU whose random state must be preserved."""
    return [device] if device.type == "cuda" else []


def global_states(device: torch.device) -> dict[str, object]:
    """Return the global random states for comparison."""
    name, words, *rest = np.random.get_state(legacy=True)
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
