"""Checks in order, each made once: what they expect, what they find, and how tests run them."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medzoo.errors import MedzooError
from medzoo.plugins.foreign_errors import failure
from medzoo.plugins.lookup import load_plugins
from medzoo.seeds import global_draws_from

if TYPE_CHECKING:
    import pytest

CPU = torch.device("cpu")

Check = Callable[[], None]
"""One check: call it in a test. It fails the test with what was found, or skips it where the check does not apply."""

_HEAVY = ("torch", "numpy", "scipy", "sklearn", "PIL", "torchvision", "diffusers", "timm", "transformers", "matplotlib")
_REGISTER = """
import sys
from medzoo.plugins.discovery import PluginInfo, import_entry_point, load_plugin
name, module, *heavy = sys.argv[1:]
info = PluginInfo(name=name, distribution="", version="", module=module)
info = load_plugin(info, lambda: import_entry_point(module)).info
if info.state != "ok":
    sys.exit(info.error)
sys.stdout.write(" ".join(name for name in heavy if name in sys.modules))
"""
_REGISTER_TIMEOUT = 120.0


class ContractError(Exception):
    """The contract was broken; one line says what was expected and what was found."""


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


class Suite:
    """The checks of one spec, `what`, by name: each returns one line, or None where it does not apply.

    After a failure of one that is `required`, no other is made.
    """

    def __init__(
        self,
        what: str,
        checks: Mapping[str, Callable[[], str | None]],
        *,
        required: Collection[str],
        device: torch.device = CPU,
    ) -> None:
        self.what = what
        self.checks = checks
        self._required = required
        self._device = device
        self._made: dict[str, CheckResult | None] = {}
        self._stopped = ""

    def results(self) -> list[CheckResult]:
        """Run all checks that apply, up to the one that stops the suite; no error of a plugin is raised."""
        self._run_until(None)
        return [result for result in self._made.values() if result is not None]

    def assert_passed(self) -> None:
        """Run all checks. Raises: AssertionError, with a line for each failed check."""
        failed = [f"\n  {result.name}: {result.detail}" for result in self.results() if not result.passed]
        if failed:
            raise AssertionError(f"{self.what} breaks its contract{''.join(failed)}")

    def as_tests(self) -> pytest.MarkDecorator:
        """Return a decorator that makes one test per check, which it passes as the argument `check`."""
        import pytest

        checks = [pytest.param(functools.partial(self._test, name), id=name) for name in self.checks]
        return pytest.mark.parametrize("check", checks)

    def _test(self, name: str) -> None:
        """Run one check, after those before it; fail or skip the test accordingly."""
        import pytest

        self._run_until(name)
        result = self._made.get(name)
        if result is None:
            pytest.skip(
                f"does not apply to {self.what}" if name in self._made else f"'{self._stopped}' failed before it"
            )
        if not result.passed:
            pytest.fail(f"{self.what}: {result.detail}\n{result.traceback}".strip(), pytrace=False)

    def _run_until(self, last: str | None) -> None:
        for name in [*self.checks][len(self._made) :]:
            if self._stopped or last in self._made:
                return
            result = self._made[name] = self._run(name)
            if result is not None and not result.passed and name in self._required:
                self._stopped = name

    def _run(self, name: str) -> CheckResult | None:
        """Run a check in one thread, so that processor time does not depend on cores, with global seeds of 0."""
        start, trace, threads = time.perf_counter(), "", torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with global_seed(0, self._device):
                detail, passed = self.checks[name](), True
        except KeyboardInterrupt:
            raise
        except ContractError as broken:
            detail, passed = str(broken).strip(), False
        except BaseException as error:  # noqa: BLE001 - the plugin boundary: whatever it raises is a failed check
            detail, passed = f"it raised {failure(error)}", False
            trace = "".join(traceback.format_exception(error))
        finally:
            torch.set_num_threads(threads)
        if detail is None:
            return None
        seconds = time.perf_counter() - start
        return CheckResult(name=name, passed=passed, detail=detail, seconds=seconds, traceback=trace)


def expect(condition: bool, message: str) -> None:
    """Raise ContractError with `message` unless `condition` holds."""
    if not condition:
        raise ContractError(message)


def expect_tensor(found: object, what: str, *, shape: tuple[int | str, ...]) -> Tensor:
    """Return `found` if it is a finite float32 tensor of `shape`, where a text is any size. Raises: ContractError."""
    if not isinstance(found, Tensor):
        raise ContractError(f"expected a tensor of {what}, got {type(found).__name__}")
    sizes = zip(found.shape, shape, strict=False)
    fits = all(size == want or (isinstance(want, str) and size) for size, want in sizes)
    expect(found.ndim == len(shape) and fits, f"expected {what} of shape {shape}, got {tuple(found.shape)}")
    expect(found.dtype == torch.float32, f"expected float32 {what}, got {found.dtype}")
    expect(bool(torch.isfinite(found).all()), f"expected finite {what}, some are not")
    expect(not found.requires_grad, f"expected {what} without gradients")
    return found


def expect_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    """Raise ContractError unless two state_dicts are equal; `where` describes the second one."""
    differing = sorted(one.keys() ^ other.keys())
    differing += [name for name in one.keys() & other.keys() if not torch.equal(one[name].cpu(), other[name].cpu())]
    names = ", ".join(differing[:3])
    expect(not differing, f"{len(differing)} of {len(one)} weights differ in {where}: {names}")


def expect_medzoo_error(what: str, call: Callable[[], object]) -> str:
    """Return the message of the MedzooError that `call` raises. Raises: ContractError unless it raises one."""
    try:
        call()
    except MedzooError as error:
        return f"{what}: {error.message}"
    except Exception as error:
        raise ContractError(f"expected a MedzooError for {what}, it raised {failure(error)}") from error
    raise ContractError(f"expected a MedzooError for {what}, none was raised")


def light_registration(kind: str, spec: Any) -> str | None:
    """Check what importing the spec's plugin loads in a fresh process; None if no installed plugin registers it."""
    plugins = load_plugins()
    registered = {"generator": plugins.generators, "classifier": plugins.classifiers, "metric": plugins.metrics}[kind]
    if registered.get(spec.name) != spec:
        return None
    info = plugins.plugin_of(kind, spec.name)
    done = subprocess.run(
        [sys.executable, "-c", _REGISTER, info.name, info.module, *_HEAVY],
        capture_output=True,
        text=True,
        timeout=_REGISTER_TIMEOUT,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    output = done.stderr.strip().splitlines()
    expect(done.returncode == 0, f"in a fresh interpreter, {info.module} is broken: {output[-1] if output else ''}")
    loaded = ", ".join(done.stdout.split())
    expect(not loaded, f"expected {info.module} to load nothing heavy, it loads {loaded}: import that in `build`")
    return f"{info.module} loads neither torch nor any other large library"


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states of torch, numpy and Python inside the block, and restore them after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with global_draws_from(seed, device):
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
