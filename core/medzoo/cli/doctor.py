"""`medzoo doctor`: check this machine, and say how to fix what is wrong."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from medzoo._version import __version__
from medzoo.cli.output import Json, print_json, print_text
from medzoo.errors import ConfigError, MedzooError
from medzoo.hub.registry import ModelEntry, load_registry
from medzoo.hub.sources import locate, verify_folder
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.runs.record import library_versions
from medzoo.storage.paths import cache_root

_ENOUGH_SPACE = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report; `hint` says how to fix it where `state` is "warn"."""

    name: str
    state: str
    detail: str
    hint: str = ""


def doctor(json: Json = False) -> None:
    """Check this machine and say how to fix what is wrong.

    Versions, devices, threads, disk, cache, plugins and models, one line each.
    """
    plugins, _ = load_plugins().commands(typer.Typer)
    findings = [*_versions(), *_devices(), *_places(), *_plugins(plugins), *_models(plugins)]
    if json:
        print_json([asdict(finding) for finding in findings])
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        hint = f"  ({finding.hint})" if finding.hint else ""
        print_text(f"{finding.state:<4} {finding.name:<{width}}  {finding.detail}{hint}")


def _versions() -> Iterator[Finding]:
    yield Finding(name="medzoo", state="ok", detail=__version__)
    for name, version in library_versions().items():
        if version is None:
            yield Finding(name=name, state="warn", detail="not installed", hint=f"pip install {name}")
        else:
            yield Finding(name=name, state="ok", detail=version)


def _devices() -> Iterator[Finding]:
    """Report the devices of torch, or that torch cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        detail = f"torch cannot be imported: {error}"
        yield Finding(name="devices", state="warn", detail=detail, hint="pip install --force-reinstall torch")
        return
    from medzoo.toolkit.devices import has_bf16

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for name in names:
        device = torch.device(name)
        model = torch.backends.cpu.get_cpu_capability() if name == "cpu" else torch.cuda.get_device_name(device)
        bf16 = "bf16" if has_bf16(device) else "no bf16, fp32 is used"
        yield Finding(name=name, state="ok", detail=f"{model}, {bf16}")
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > cores:
        hint = f"export OMP_NUM_THREADS={cores}"
        yield Finding(name="threads", state="warn", detail=f"{threads} on {cores} cores", hint=hint)
    else:
        yield Finding(name="threads", state="ok", detail=f"{threads} on {cores} cores")


def _places() -> Iterator[Finding]:
    """Report free space and permissions where medzoo writes."""
    for name, folder in (("cache", cache_root()), ("here", Path.cwd())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        detail = f"{folder}, {free / 1e9:.1f} GB free"
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            hint = "set MEDZOO_CACHE to a writable folder" if name == "cache" else "change to a writable folder"
            yield Finding(name=name, state="warn", detail=f"{folder} cannot be written to", hint=hint)
        elif free < _ENOUGH_SPACE:
            yield Finding(name=name, state="warn", detail=detail, hint="free some space")
        else:
            yield Finding(name=name, state="ok", detail=detail)


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    for row in plugins.infos:
        name = f"plugin {row.name}"
        if row.state == "ok":
            yield Finding(name=name, state="ok", detail=f"{row.distribution} {row.version}")
        else:
            hint = f"pip install --upgrade {row.distribution}, or uninstall it; medzoo plugin list --verbose"
            yield Finding(name=name, state="warn", detail=f"{row.state}: {row.error}", hint=hint)


def _models(plugins: Plugins) -> Iterator[Finding]:
    """Report for each model whether a source has it, and whether its files are intact."""
    try:
        registry = load_registry(plugins=plugins)
    except ConfigError as error:
        yield Finding(name="registry", state="warn", detail=error.message, hint=error.hint)
        return
    for problem in registry.problems:
        yield Finding(name="registry", state="warn", detail=problem, hint="upgrade or uninstall its plugin")
    for entry in registry.entries:
        yield _model(entry)


def _model(entry: ModelEntry) -> Finding:
    name = f"model {entry.id}"
    state, folder = locate(entry)
    if state == "hub":
        return Finding(name=name, state="ok", detail=f"on the Hub: {entry.repo}")
    if folder is None:
        hint = f"medzoo pull {entry.id} --from DIR"
        return Finding(name=name, state="warn", detail="no source has it", hint=hint)
    try:
        verify_folder(folder, entry)
    except MedzooError as error:
        return Finding(name=name, state="warn", detail=error.message, hint=f"medzoo pull {entry.id}")
    return Finding(name=name, state="ok", detail=state)
