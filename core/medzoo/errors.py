"""The exceptions of medzoo: each states what was given, what was expected, and the command that fixes it."""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Control characters, and those that hide or reorder text on a terminal or break its lines.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def escape_control(text: str) -> str:
    r"""Return `text` as one line that is safe to print: its control characters are escaped, as in \x1b and \n."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class MedzooError(Exception):
    """A failure that a user can fix: `message` says what happened, `hint` what to do; `exit_code` is the shell's."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(MedzooError):
    """An invalid option, key or value."""

    exit_code = 2


class UnknownName(ConfigError):
    """An unknown name; the hint suggests the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=2, cutoff=0.5)
        if near:
            suggestion = "did you mean " + " or ".join(near) + "?"
        else:
            suggestion = "known: " + (", ".join(choices) if choices else "none")
        super().__init__(f"unknown {kind} '{name}'", f"{suggestion} {hint}".strip())


class PluginError(MedzooError):
    """A plugin that fails to import, raises an error, or breaks its contract."""

    exit_code = 3


class HubError(MedzooError):
    """A source of models that cannot be reached or does not hold what was requested."""

    exit_code = 4


class IntegrityError(HubError):
    """Bytes whose SHA-256 is not the one in the registry."""


class DataError(MedzooError):
    """Images, labels or folders that cannot be used as they are."""

    exit_code = 5


class ResourceError(MedzooError):
    """A device, memory or disk that is missing, full or read-only."""

    exit_code = 6


OUT_OF_MEMORY = "out of memory"
"""How the message of each error by which memory ran out begins."""

# What PyTorch says on a CPU and on GPUs, cuDNN, cuBLAS, oneDNN, the C++ library, and threads that get no stack.
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|_alloc_failed|bad_alloc|can't start new thread"
    r"|could not create a memory object|storage size calculation overflowed",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of Python or of a library that runs on a CPU or a GPU, says that memory ran out."""
    if isinstance(error, MedzooError):
        return False
    found = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return found or (isinstance(error, Exception) and _NO_MEMORY.search(str(error)) is not None)


@contextmanager
def memory_errors(doing: str, hint: str) -> Iterator[None]:
    """Turn running out of memory while `doing` something into a ResourceError; `hint` names the setting to lower.

    >>> with memory_errors("sampling 64 images at once", "use a --batch-size below 64"):
    ...     images = model.sample(seeds, labels)
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"{OUT_OF_MEMORY} {doing}", hint) from error
