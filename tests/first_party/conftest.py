"""What a plugin cannot be checked without: a local pipeline for `api-variation`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_pipeline import make_variation_pipeline

from medzoo import GeneratorSpec


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny image-variation pipeline."""
    return make_variation_pipeline(tmp_path_factory.mktemp("pipelines") / "variation")


@pytest.fixture
def overrides(request: pytest.FixtureRequest) -> Callable[[GeneratorSpec], list[str]]:
    """The settings that a generator's `tiny` preset cannot know."""

    def of(spec: GeneratorSpec) -> list[str]:
        if spec.name != "api-variation":
            return []
        return [f"diffusers.model={request.getfixturevalue('pipeline')}"]

    return of
