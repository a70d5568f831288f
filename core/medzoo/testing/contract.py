"""Promises kept or broken, and the global random states that are nobody's to change."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


class Broken(Exception):
    """A promise that was not kept: in one line, what was expected and what came."""


def expect(kept: bool, otherwise: str) -> None:
    """Nothing. Raises: Broken with `otherwise` unless `kept`."""
    if not kept:
        raise Broken(otherwise)


def expect_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    """Nothing. Raises: Broken unless the weights of two models are the same; `where` names the other one."""
    differing = sorted(one.keys() ^ other.keys())
    differing += [name for name in one.keys() & other.keys() if not torch.equal(one[name].cpu(), other[name].cpu())]
    names = ", ".join(differing[:3])
    expect(not differing, f"{len(differing)} of {len(one)} weights differ in {where}: {names}")


@contextlib.contextmanager
def noting_global_state(device: torch.device, touched: set[str], where: str) -> Iterator[None]:
    """Nothing; `touched` then names the global random states that changed inside, and `where` it was."""
    before = global_states(device)
    try:
        yield
    finally:
        after = global_states(device)
        touched |= {f"{name} {where}" for name in before if before[name] != after[name]}


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Nothing; inside, the global random states of torch, numpy and Python start from `seed`."""
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
    """The devices beside the CPU whose random state is to be kept."""
    return [device] if device.type == "cuda" else []


def global_states(device: torch.device) -> dict[str, object]:
    """The global random states, to be compared."""
    name, words, *rest = np.random.get_state(legacy=True)
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
