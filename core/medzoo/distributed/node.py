"""The side of a worker process on another machine: unpack the work and the files it reads, do items, pack results.

Files lie in a folder of the run, shared by the processes of a node, which unpack each of them once. It is removed at
the end of the run, or, where that was killed, when the next one starts on the node.
"""

from __future__ import annotations

import getpass
import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from medzoo.errors import MedzooError, PluginError, ResourceError, is_out_of_memory
from medzoo.plugins.foreign_errors import failure
from medzoo.plugins.guard import exits_as_errors, plugin_at_fault

try:
    import fcntl
except ImportError:  # on Windows, leftovers of killed runs stay
    fcntl = None  # type: ignore[assignment]

Files = Sequence[tuple[str, np.ndarray]]
"""Files as they are sent: the path on the machine they are from, and the bytes."""

CHUNK = 64 * 1024**2
PROBE = ".medzoo-probe"
_IN_USE, _LOCK = ".in-use", ".lock"
_SKIPPED = "checkpoints"


class Packer(pickle.Pickler):
    """Pickle work so that its paths can stand for copies on another machine."""

    def persistent_id(self, obj: Any) -> str | None:
        """Return the absolute path in place of a path."""
        return str(Path(obj).absolute()) if isinstance(obj, PurePath) else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, place: Callable[[str], Path]) -> None:
        super().__init__(file)
        self._place = place

    def persistent_load(self, pid: Any) -> Path:
        return self._place(pid)


def pack(work: object) -> bytes:
    """Return the bytes of `work`, which `Node` reads. Processes of one cluster trust each other, as Ray's own do."""
    buffer = io.BytesIO()
    Packer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(work)
    return buffer.getvalue()


def read_files(paths: Iterable[Path]) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Yield the files in chunks of about `CHUNK` bytes; of folders, the files in them but checkpoints.

    Raises: OSError.
    """
    chunk: list[tuple[str, np.ndarray]] = []
    size = 0
    for path in dict.fromkeys(file for given in paths for file in files_in(given)):
        data = np.fromfile(path, np.uint8)
        chunk.append((str(path.absolute()), data))
        size += len(data)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def files_in(path: Path) -> list[Path]:
    """Return the file, or the files in a folder, at any depth, that others may need: no checkpoints, no hidden ones."""
    if not path.is_dir():
        return [path]
    inside = ((file, file.relative_to(path).parts) for file in sorted(path.rglob("*")) if file.is_file())
    return [file for file, parts in inside if _SKIPPED not in parts and not parts[-1].startswith(".")]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a worker process needs to begin: the packed work, its files, and which folders need no copy.

    `get` returns the files of a reference.
    """

    run: str
    node: str
    work: bytes
    files: Sequence[Any]
    shared: Sequence[str]
    threads: int
    get: Callable[[Any], Any]


class Node:
    """The work in one process of a node."""

    def __init__(self, start: Start) -> None:
        import torch

        torch.set_num_threads(start.threads)
        self._get, self._shared = start.get, [Path(root) for root in start.shared]
        root = Path(tempfile.gettempdir()) / f"medzoo-ray-{getpass.getuser()}"
        _sweep(root)
        self._folder = root / f"{start.run}-{start.node[:12]}"
        self._held = _hold(self._folder)
        for number, reference in enumerate(start.files):
            self._unpack(f"inputs-{number}", [reference])
        with exits_as_errors():
            self._work = _Unpacker(io.BytesIO(start.work), self._place).load()

    def call(self, item: Any, needs: Sequence[tuple[str, Sequence[Any]]]) -> tuple[Any, ...]:
        """Do an item whose `needs` are folders by path, each with references to its files.

        Returns "done", the result, and the files of the item's folder; or as `failed`.
        """
        try:
            for folder, references in needs:
                self._unpack(folder, references)
            with exits_as_errors():
                result = self._work(item)
            output = self._work.output(item)
            files: list[tuple[str, bytes]] = []
            if output is not None and not self._is_shared(output):
                files = [(file.relative_to(output).as_posix(), file.read_bytes()) for file in files_in(output)]
        except Exception as error:  # noqa: BLE001 - what is no error of medzoo or a plugin is raised by it
            return failed(error)
        return ("done", result, files)

    def clean(self) -> None:
        """Remove the folder of the run."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _unpack(self, name: str, references: Sequence[Any]) -> None:
        """Write files where the work looks for them, once for all processes of the node."""
        from filelock import FileLock

        done = self._folder / f".{name.replace('/', '%').replace(os.sep, '%')}"
        if done.exists():
            return
        with FileLock(self._folder / _LOCK):
            if done.exists():
                return
            for reference in references:
                for path, data in self._get(reference):
                    place = self._place(path)
                    if not place.exists():
                        place.parent.mkdir(parents=True, exist_ok=True)
                        temporary = place.with_name(f"{place.name}.part")
                        temporary.write_bytes(data)
                        temporary.replace(place)
            done.touch()

    def _place(self, path: str) -> Path:
        """Return where a path of the machine that sent the work is here."""
        original = Path(path)
        return original if self._is_shared(original) else self._folder.joinpath(*original.parts[1:])

    def _is_shared(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._shared)


def answer_probe(settings: Mapping[str, Any]) -> None:
    """Show the machine that sent the work that this one sees the shared folders: read its file and write another.

    What fails is not said here, but missed there.
    """
    for root in settings["shared"]:
        with suppress(OSError):
            probe = Path(root) / f"{PROBE}-{settings['run']}"
            token = probe.read_text()
            if token == settings["run"]:
                probe.with_name(f"{probe.name}-{settings['node']}").write_text(token)


def failed(error: Exception) -> tuple[str, str, str, str]:
    """Return "failed", the class of medzoo's errors, the message and the hint. Raises: `error`, if it is none's fault.

    A plugin's error, and running out of memory, are errors of medzoo.
    """
    if not isinstance(error, MedzooError):
        if is_out_of_memory(error):
            found: MedzooError = ResourceError(f"out of memory ({error})", "lower --batch-size")
        elif (row := plugin_at_fault(error)) is not None:
            found = PluginError(f"plugin '{row.name}' of {row.distribution} raised {failure(error)}")
        elif isinstance(error, OSError):
            found = ResourceError(
                f"cannot use {error.filename}: {error.strerror}", "check the disk and its permissions"
            )
        else:
            raise error
    else:
        found = error
    # Of a class of medzoo that is made of a message and a hint.
    own = [each for each in type(found).__mro__ if each.__module__ == MedzooError.__module__]
    kind = next(each for each in own if "__init__" not in vars(each) or each is MedzooError)
    return ("failed", kind.__name__, found.message, found.hint)


def _hold(folder: Path) -> int | None:
    """Create the folder and keep `_sweep` from removing it as long as this process lives; return the descriptor."""
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if fcntl is None:
            return None
        descriptor = os.open(folder / _IN_USE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if (folder / _IN_USE).exists():
            return descriptor
        os.close(descriptor)  # swept between the two


def _sweep(root: Path) -> None:
    """Remove the folders of runs none of whose processes is alive."""
    for marker in root.glob(f"*/{_IN_USE}") if fcntl is not None else ():
        with suppress(OSError):
            descriptor = os.open(marker, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(marker.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
