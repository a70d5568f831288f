"""Settings of `duplicate`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.toolkit.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class DuplicateConfig:
    """Settings of `duplicate`."""

    image: ImageSettings = ImageSettings()
