"""Random seeds derived from names and numbers, so that every draw is reproducible."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part and on their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU random generator seeded from `parts`: the same draws on every device."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))


@contextlib.contextmanager
def global_draws_from(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global randomness (initialization, dropout) with `seed` inside the block, and restore it after."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
