"""The conformance kit as pytest tests, one for each check."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from medzoo.testing.classifiers import classifier_suite
from medzoo.testing.generators import generator_suite
from medzoo.testing.metrics import metric_suite
from medzoo.testing.suite import S, Suite

if TYPE_CHECKING:
    import pytest

    from medzoo.specs import ClassifierSpec, GeneratorSpec, MetricSpec

Check = Callable[[], None]
"""One check: call it in a test. It fails the test with what was found, or skips it where the check does not apply."""


def generator_checks(
    spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> pytest.MarkDecorator:
    """Return a decorator that makes one test per check of a generator; the test calls its argument `check`.

    ```python
    @generator_checks(SPEC)
    def test_the_contract(check):
        check()
    ```
    """
    return _parametrized(generator_suite(spec, device=device, overrides=overrides))


def classifier_checks(
    spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> pytest.MarkDecorator:
    """Return the decorator of `generator_checks` for a classifier."""
    return _parametrized(classifier_suite(spec, device=device, overrides=overrides))


def metric_checks(spec: MetricSpec) -> pytest.MarkDecorator:
    """Return the decorator of `generator_checks` for a metric."""
    return _parametrized(metric_suite(spec))


def _parametrized(suite: Suite[Any]) -> pytest.MarkDecorator:
    import pytest

    checks = [pytest.param(functools.partial(_make, suite, name), id=name) for name in suite.names]
    return pytest.mark.parametrize("check", checks)


def _make(suite: Suite[S], name: str) -> None:
    """Run the check; fail or skip the test accordingly."""
    import pytest

    outcome = suite.outcome(name)
    if isinstance(outcome, str):
        pytest.skip(outcome)
    if not outcome.passed:
        pytest.fail(f"{suite.what}: {outcome.detail}\n{outcome.traceback}".strip(), pytrace=False)
