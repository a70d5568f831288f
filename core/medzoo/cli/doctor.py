"""`medzoo doctor`: check this machine, and say how to fix what is wrong."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from medzoo._version import __version__
from medzoo.cli.output import Json, print_json, print_text
from medzoo.errors import ConfigError, MedzooError
from medzoo.hub.registry import load_registry
from medzoo.hub.sources import locate, verify_folder
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.runs.record import library_versions
from medzoo.storage.paths import cache_root

_ENOUGH_SPACE = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line of the report; `hint` says how to fix what is wrong, "" if nothing is."""

    name: str
    detail: str
    hint: str = ""

    @property
    def state(self) -> str:
        """Whether something is wrong: "ok" or "warn"."""
        return "warn" if self.hint else "ok"


def doctor(json: Json = False) -> None:
    """Check this machine and say how to fix what is wrong.

    Versions, devices, threads, disk, cache, plugins and models, one line each.
    """
    plugins, _ = load_plugins().commands(typer.Typer)
    findings = [*_versions(), *_devices(), *_places(), *_plugins(plugins), *_models(plugins)]
    if json:
        print_json([{"name": f.name, "state": f.state, "detail": f.detail, "hint": f.hint} for f in findings])
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        hint = f"  ({finding.hint})" if finding.hint else ""
        print_text(f"{finding.state:<4} {finding.name:<{width}}  {finding.detail}{hint}")


def _versions() -> Iterator[Finding]:
    yield Finding("medzoo", __version__)
    for name, version in library_versions().items():
        yield Finding(name, version) if version else Finding(name, "not installed", f"pip install {name}")


def _devices() -> Iterator[Finding]:
    """Report the devices of torch, or that torch cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("devices", f"torch cannot be imported: {error}", "pip install --force-reinstall torch")
        return
    from medzoo.toolkit.devices import has_bf16

    for name in ("cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))):
        device = torch.device(name)
        model = torch.backends.cpu.get_cpu_capability() if name == "cpu" else torch.cuda.get_device_name(device)
        yield Finding(name, f"{model}, {'bf16' if has_bf16(device) else 'no bf16, fp32 is used'}")
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    hint = f"export OMP_NUM_THREADS={cores}" if threads > cores else ""
    yield Finding("threads", f"{threads} on {cores} cores", hint)


def _places() -> Iterator[Finding]:
    """Report free space and permissions where medzoo writes."""
    for name, folder in (("cache", cache_root()), ("here", Path.cwd())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            hint = "set MEDZOO_CACHE to a writable folder" if name == "cache" else "change to a writable folder"
            yield Finding(name, f"{folder} cannot be written to", hint)
        else:
            detail = f"{folder}, {free / 1e9:.1f} GB free"
            yield Finding(name, detail, "free some space" if free < _ENOUGH_SPACE else "")


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    for row in plugins.infos:
        name = f"plugin {row.name}"
        if row.state == "ok":
            yield Finding(name, f"{row.distribution} {row.version}")
        else:
            hint = f"pip install --upgrade {row.distribution}, or uninstall it; medzoo plugin list --verbose"
            yield Finding(name, f"{row.state}: {row.error}", hint)


def _models(plugins: Plugins) -> Iterator[Finding]:
    """Report for each model whether a source has it, and whether its files are intact."""
    try:
        registry = load_registry(plugins=plugins)
    except ConfigError as error:
        yield Finding("registry", error.message, error.hint or "correct it")
        return
    for problem in registry.problems:
        yield Finding("registry", problem, "upgrade or uninstall its plugin")
    for entry in registry.entries:
        name = f"model {entry.id}"
        state, folder = locate(entry)
        if folder is not None:
            try:
                verify_folder(folder, entry)
            except MedzooError as error:
                yield Finding(name, error.message, f"medzoo pull {entry.id}")
            else:
                yield Finding(name, state)
        elif state == "hub":
            yield Finding(name, f"on the Hub: {entry.repo}")
        else:
            yield Finding(name, "no source has it", f"medzoo pull {entry.id} --from DIR")
