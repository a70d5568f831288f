"""The whole extension surface. Implement any of these in a module and name it in the entry-point group `medzoo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

hookspec = pluggy.HookspecMarker("medzoo")
hookimpl = pluggy.HookimplMarker("medzoo")


@hookspec
def register_generators() -> list[GeneratorSpec]:  # type: ignore[empty-body]
    """Return the generators this plugin provides."""


@hookspec
def register_classifiers() -> list[ClassifierSpec]:  # type: ignore[empty-body]
    """Return the classifiers this plugin provides."""


@hookspec
def register_metrics() -> list[MetricSpec]:  # type: ignore[empty-body]
    """Return the metrics this plugin provides."""


@hookspec
def register_extractors() -> list[ExtractorSpec]:  # type: ignore[empty-body]
    """Return the extractors this plugin provides, in whose features metrics compare images."""


@hookspec
def register_registries() -> list[Path]:  # type: ignore[empty-body]
    """Return registry files (TOML) whose models `medzoo list` should show."""


@hookspec
def register_commands(app: Any) -> None:
    """Add commands to the `medzoo` command line; `app` is its typer.Typer."""
