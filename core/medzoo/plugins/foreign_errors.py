"""Describe errors of code outside medzoo in one line, with the place where they were raised."""

from __future__ import annotations

import os
import textwrap
import traceback
from pathlib import Path
from types import FrameType

from medzoo.errors import MedzooError

# Libraries that plugins call: whoever called them is to blame.
_LIBRARIES = frozenset(
    """
    PIL accelerate cv2 diffusers einops httpx huggingface_hub lpips medzoo monai numpy pandas pluggy requests
    safetensors scipy skimage sklearn timm torch torch_fidelity torchmetrics torchvision transformers urllib3
    """.split()  # noqa: SIM905 - a name a line would hide the rest of this small file
)
_PYTHON = os.path.dirname(os.__file__)
_INSTALLED = ("site-packages", "dist-packages")
_LENGTH = 400


def failure(error: BaseException) -> str:
    """Describe `error` in a line: type, message and place, as in "KeyError: 'a' (medzoo_mine/model.py:12)"."""
    text = str(error) if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
    place = raised_at(error)
    description = textwrap.shorten(text, _LENGTH)
    return f"{description} ({place})" if place and not isinstance(error, MedzooError) else description


def raised_at(error: BaseException) -> str:
    """Return the last line of plugin code that the error passed, as in "medzoo_mine/model.py:12"; "" for none."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if not is_library(frame):
            return place_of(frame, line)
    return ""


def place_of(frame: FrameType, line: int) -> str:
    """Return a line of code as in "medzoo_mine/model.py:12"."""
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{line}"


def is_library(frame: FrameType) -> bool:
    """Return whether a frame is of medzoo, Python, or a library that plugins call, and so not to blame."""
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return top in _LIBRARIES or is_of_python(frame)


def is_of_python(frame: FrameType) -> bool:
    """Return whether a frame is of Python's own library."""
    file = frame.f_code.co_filename
    return file.startswith(("<", _PYTHON)) and not any(name in file for name in _INSTALLED)
