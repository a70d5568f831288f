"""What the conformance kit found: one result a check, whatever a plugin does in it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from medzoo.plugins.foreign_errors import failure
from medzoo.testing.contract import ContractError, global_seed


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check of a plugin: whether it passed, in one line what was found, and how long it took.

    `traceback` is of what the plugin raised, where that failed the check.
    """

    name: str
    passed: bool
    detail: str
    seconds: float
    traceback: str = ""


def run_check(name: str, check: Callable[[], str | None], device: torch.device) -> CheckResult | None:
    """Run a check with global random states seeded with 0; return None where it does not apply."""
    start, trace = time.perf_counter(), ""
    try:
        with global_seed(0, device):
            detail, passed = check(), True
    except KeyboardInterrupt:
        raise
    except ContractError as broken:
        detail, passed = str(broken).strip(), False
    except BaseException as error:  # noqa: BLE001 - the plugin boundary: whatever it raises is a failed check
        detail, passed = f"it raised {failure(error)}", False
        trace = "".join(traceback.format_exception(error))
    if detail is None:
        return None
    seconds = time.perf_counter() - start
    return CheckResult(name=name, passed=passed, detail=detail, seconds=seconds, traceback=trace)


def assert_passed(what: str, results: Sequence[CheckResult]) -> None:
    """Assert that all `results` passed.

    Raises:
        AssertionError: one line for each check that failed, after one that names `what` was checked.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        lines = "\n".join(f"  {result.name}: {result.detail}" for result in failed)
        raise AssertionError(f"{what} breaks its contract\n{lines}")
