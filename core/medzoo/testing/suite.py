"""Checks in order, each made once: the frame of every kind's suite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from medzoo.testing.results import CheckResult, run_check


class Tested(Protocol):
    """What is under test."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""


S = TypeVar("S", bound=Tested)


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[S]):
    """Checks made one after the other; unless all of a `required` stage pass, nothing after it is made."""

    checks: Mapping[str, Callable[[S], str | None]]
    required: bool = False


@dataclass(frozen=True)
class _Step(Generic[S]):
    """One check of one subject."""

    name: str
    check: Callable[[S], str | None]
    subject: S
    required: bool
    last: bool


class Suite(Generic[S]):
    """The checks of one spec. `subjects` are what is tested, by what stands before the names of its checks."""

    def __init__(self, what: str, stages: Sequence[Stage[S]], subjects: Mapping[str, S]) -> None:
        self.what = what
        self._steps = [
            _Step(prefix + name, check, subject, stage.required, last=name == list(stage.checks)[-1])
            for prefix, subject in subjects.items()
            for stage in stages
            for name, check in stage.checks.items()
        ]
        self._made: dict[str, CheckResult | None] = {}
        self._failed = ""
        self._stopped = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every check that may apply, in order."""
        return tuple(step.name for step in self._steps)

    def results(self) -> list[CheckResult]:
        """Run all checks that apply, up to the one that stops the suite; no error of a plugin is raised."""
        self._run_until(None)
        return [result for result in self._made.values() if result is not None]

    def outcome(self, name: str) -> CheckResult | str:
        """Run one check, after those it depends on, and return its result, or the reason why there is none.

        Raises: KeyError for an unknown name.
        """
        if name not in self.names:
            raise KeyError(name)
        self._run_until(name)
        if name not in self._made:
            return f"'{self._stopped}' failed before it"
        return self._made[name] or f"does not apply to {self.what}"

    def _run_until(self, name: str | None) -> None:
        for step in self._steps[len(self._made) :]:
            if self._stopped or name in self._made:
                return
            with one_thread():
                result = run_check(step.name, _bound(step), step.subject.device)
            self._made[step.name] = result
            if step.required and result is not None and not result.passed:
                self._failed = self._failed or step.name
            if step.last:
                self._stopped = self._failed


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread inside the block, so that processor time does not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _bound(step: _Step[S]) -> Callable[[], str | None]:
    return lambda: step.check(step.subject)
