"""What the conformance kit found: one result a check, whatever a plugin does in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from medzoo.testing.promises import Broken, global_seed


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check of a plugin: whether it passed, in one line what was found, and how long it took."""

    name: str
    passed: bool
    detail: str
    seconds: float


def run_check(name: str, check: Callable[[], str | None], device: torch.device) -> CheckResult | None:
    """The result of one check, or None where it does not apply; inside, the global random states start from 0."""
    start = time.perf_counter()
    try:
        with global_seed(0, device):
            detail, passed = check(), True
    except KeyboardInterrupt:
        raise
    except Broken as broken:
        detail, passed = str(broken), False
    except BaseException as error:  # noqa: BLE001 - the plugin boundary: whatever it raises is a failed check
        text = str(error).strip().splitlines()
        detail, passed = f"it raised {type(error).__name__}: {text[0] if text else '(no message)'}", False
    if detail is None:
        return None
    return CheckResult(name=name, passed=passed, detail=detail, seconds=time.perf_counter() - start)


def assert_passed(what: str, results: Sequence[CheckResult]) -> None:
    """Nothing, if all `results` passed.

    Raises:
        AssertionError: one line for each check that failed, after one that names `what` was checked.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        lines = "\n".join(f"  {result.name}: {result.detail}" for result in failed)
        raise AssertionError(f"{what} breaks its contract\n{lines}")
