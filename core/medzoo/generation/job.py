"""What a job that fills a folder is made of: its plan, its models and images, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medzoo.data.dataset import Dataset
from medzoo.generation.plan import Plan
from medzoo.generation.sampler import Studio
from medzoo.plugins.lookup import Plugins


@dataclass(frozen=True, kw_only=True)
class Job:
    """One filling job. `identity` says what makes two jobs the same; `labels` are all classes, in order.

    `originals` names where each real image goes in the folder; empty where they are left out. `sheet` is the contact
    sheet's path, with up to `tiles` images a row; `data` and `facts` go into run.json as they are. `allow_upload` lets
    real images leave this machine, to the services that generators name.
    """

    kind: str
    folder: Path
    plan: Plan
    studio: Studio
    labels: tuple[str, ...]
    identity: Mapping[str, Any]
    plugins: Plugins
    device: str
    originals: tuple[str, ...] = ()
    how: str = "omit"
    sheet: Path | None = None
    tiles: int = 8
    shard: tuple[int, int] = (1, 1)
    allow_upload: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def real(self) -> Dataset | None:
        """The real images, where there are any."""
        return self.studio.real
