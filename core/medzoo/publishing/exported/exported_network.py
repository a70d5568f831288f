"""A component of a pipeline of diffusers for networks of which diffusers has no class: a program of torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor

FILE = "network.pt2"
_ROWS = 32  # at a time


class ExportedNetwork(ModelMixin, ConfigMixin):
    """A network in float32, loaded from network.pt2: it moves between devices, and keeps its precision."""

    config_name = "config.json"

    def __init__(self, program: Any) -> None:
        super().__init__()
        self._program = program
        self._callable = program.module()
        self._device = torch.device("cpu")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> ExportedNetwork:
        """Load the program in `folder`."""
        return cls(torch.export.load(Path(folder) / FILE))

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Save the program to `folder`."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        torch.export.save(self._program, Path(folder) / FILE)

    @property
    def device(self) -> torch.device:
        """The device it runs on."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """float32."""
        return torch.float32

    def to(self, *arguments: Any, **named: Any) -> ExportedNetwork:
        """Move it to a device; a dtype is ignored."""
        device = torch._C._nn._parse_to(*arguments, **named)[0]
        if device is not None and device != self._device:
            from torch.export.passes import move_to_device_pass

            self._program = move_to_device_pass(self._program, str(device))
            self._callable = self._program.module()
            self._device = device
        return self

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the output for inputs (N, ...)."""
        rows = zip(*(part.split(_ROWS) for part in inputs), strict=True)
        return torch.cat([self._callable(*part) for part in rows])
