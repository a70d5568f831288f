"""Tensors in safetensors files that state the hash of their content, which is compared whenever they are read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medzoo.errors import DataError, IntegrityError
from medzoo.storage.files import write_atomic

logger = logging.getLogger(__name__)

_HASH = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` to `path` atomically, with their hash in the metadata of the file. Raises: ResourceError."""
    values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(values, metadata={_HASH: sha256_tensors(values)}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file onto the CPU. A file without a hash, as of an earlier version, is read unchecked.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it may not be read.
        IntegrityError: it is damaged.
    """
    try:
        return _read(path)[0]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check its permissions") from error


def read_cached_tensors(path: Path) -> dict[str, Tensor] | None:
    """Read the tensors of a cached file; None if it is missing, damaged (logged), or of an earlier version."""
    try:
        tensors, checked = _read(path)
    except OSError:  # most often, there is none
        return None
    except IntegrityError as error:
        logger.warning(f"{error.message}; computing it again")
        return None
    return tensors if checked else None


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and values of tensors on the CPU, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name!r} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of a file, and whether it states their hash. Raises: OSError; IntegrityError."""
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(_HASH)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise IntegrityError(f"{path} is damaged: {error}", "delete it") from error
    if stated is not None and stated != sha256_tensors(tensors):
        raise IntegrityError(f"{path} is damaged: its content differs from the sha256 in it", "delete it")
    return tensors, stated is not None
