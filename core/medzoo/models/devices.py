"""Torch devices by name, and the hardware behind them."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from medzoo.errors import ConfigError, ResourceError


def pick_device(device: str) -> str:
    """Return the torch device that "auto", "cpu", "cuda", "cuda:1" or "mps" means, as "cpu", "cuda:0" or "mps".

    Raises:
        ConfigError: no such kind of device.
        ResourceError: this machine does not have the device.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"unknown device '{device}'", "use auto, cpu, cuda, cuda:N or mps")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not present or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise ResourceError(f"this machine has no device {device}", "`medzoo doctor` shows its devices; --device cpu")
    return f"cuda:{index or 0}" if kind == "cuda" else kind


def device_here(device: str) -> str:
    """Return the device; the CPU where this machine lacks the GPU that nodes of a cluster have."""
    return "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else device


def hardware(device: str) -> str:
    """Return the name of the processor or GPU behind a torch device, with the number of threads a CPU uses."""
    if device.startswith("cuda") and device_here(device) == "cpu":
        return "GPUs of a Ray cluster"
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
