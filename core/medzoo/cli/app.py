"""The `medzoo` command: its subcommands, each imported when asked for, and errors as exit codes."""

import errno
import functools
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from medzoo.cli import INTERRUPTED, quit_at_interrupt
from medzoo.cli.output import logging_to_stderr
from medzoo.errors import OUT_OF_MEMORY, MedzooError, PluginError, ResourceError, UnknownName, is_out_of_memory

if TYPE_CHECKING:
    from medzoo.plugins.lookup import PluginInfo

logger = logging.getLogger(__name__)


# typer keeps click's base classes to itself, and under another name from one version to the next.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]
_ClickException: type[Any] = _UsageError.__bases__[0]

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "it is read-only"}
_MOMENT = 0.05  # seconds
_NO_MEMORY = (OUT_OF_MEMORY, "lower --batch-size, training.batch_size or image.size", ResourceError.exit_code)

Verb = Callable[..., None] | typer.Typer


# Each command by name: its module in medzoo.cli, and the function or Typer app in it; imported when asked for.
VERBS: Mapping[str, tuple[str, str]] = {
    "list": ("list", "list_models"),
    "show": ("show", "show"),
    "pull": ("pull", "pull"),
    "mirror": ("pull", "mirror"),
    "cache": ("cache", "app"),
    "train": ("train", "train"),
    "sample": ("sample", "sample"),
    "inspect": ("inspect", "inspect"),
    "augment": ("augment", "augment"),
    "identify": ("identify", "identify"),
    "classify": ("classify", "app"),
    "experiment": ("experiment", "app"),
    "tune": ("tune", "tune"),
    "evaluate": ("evaluate", "evaluate"),
    "study": ("study", "app"),
    "gallery": ("gallery", "gallery"),
    "app": ("serve", "app"),
    "card": ("push", "card"),
    "push": ("push", "push"),
    "export": ("export", "export"),
    "data": ("data", "app"),
    "plugin": ("plugin", "app"),
    "registry": ("registry", "app"),
    "doctor": ("doctor", "doctor"),
}


class Verbs(TyperGroup):
    """The group of all commands; those of plugins are loaded only for help or an unknown name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, medzoo's own first."""
        return [*VERBS, *self._foreign]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command. Raises: UnknownName."""
        if cmd_name in VERBS:
            module, name = VERBS[cmd_name]
            return _command(cmd_name, getattr(import_module(f"medzoo.cli.{module}"), name))
        foreign = self._foreign
        if cmd_name in foreign or cmd_name.startswith("-"):
            return foreign.get(cmd_name)
        raise UnknownName("command", cmd_name, [*VERBS, *foreign], "`medzoo --help` describes them")

    @functools.cached_property
    def _foreign(self) -> dict[str, Any]:
        """Return plugins' commands by name, without those whose name is taken, which are logged."""
        from medzoo.plugins.lookup import load_plugins

        plugins, apps = load_plugins().commands(_new_app)
        commands: dict[str, Any] = {}
        for row, app in apps:
            for name, command in typer.main.get_group(app).commands.items():
                if name in VERBS or name in commands:
                    logger.warning(
                        f"plugin '{row.name}' of {row.distribution}: command '{name}' is left out: the name is taken"
                    )
                else:
                    commands[name] = command
        if hint := plugins.broken_hint:
            logger.warning(hint.strip("()"))
        return commands


app = typer.Typer(cls=Verbs, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        from medzoo._version import __version__

        typer.echo(f"medzoo {__version__}")
        raise typer.Exit


@app.callback()
def _medzoo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Generative augmentation of medical images: list, pull, train, sample and augment with small models."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _interrupt_again
    arguments = sys.argv[1:]
    _open_streams(results_apart=bool(arguments) and arguments[0] in VERBS)
    code = run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is left would fail again when Python exits
        if not isinstance(error, BrokenPipeError):  # as when `head` has seen enough
            with logging_to_stderr():
                code = _report_os_error(error)
    quit_at_interrupt()  # Python waits for threads when it exits
    sys.exit(code)


_interrupts: list[int] = []


def _interrupt(number: int, frame: object) -> NoReturn:
    """Raise KeyboardInterrupt, and remember it: libraries in C may turn it into another error."""
    _interrupts.append(number)
    raise KeyboardInterrupt


def _interrupt_again(found: "sys.UnraisableHookArgs") -> None:
    """Repeat a Ctrl-C that arrived where no error can be raised, as in a callback of a library in C."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(found)


def _open_streams(*, results_apart: bool) -> None:
    """Open streams that are closed, and let them escape what their encoding lacks, as letters of a class name.

    With `results_apart`, sys.stdout alone writes to what was given as stdout; what plugins, libraries and programs
    write to file descriptor 1 goes to stderr.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the number, and no file that is opened later can
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it is open as long as the program runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if name == "stdout" and results_apart and stream.fileno() == 1:
                results = os.dup(1)
                os.dup2(2, 1)
                buffering = 1 if stream.line_buffering else -1
                sys.stdout = open(  # noqa: SIM115 - as above
                    results, "w", buffering, encoding=stream.encoding, errors=stream.errors, newline=""
                )


def run(arguments: list[str]) -> int:
    """Run `medzoo` with these arguments and return its exit code; expected errors print one line and a hint."""
    with logging_to_stderr():
        try:
            return _run(arguments)
        except Exception as error:
            if not (_interrupts or is_out_of_memory(error)):
                raise
            return _report(*_NO_MEMORY)


def _run(arguments: list[str]) -> int:
    try:
        if any(name in os.environ for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")):
            from medzoo.hub.network import check_time_limits

            check_time_limits()  # a wrong one would end any import of huggingface_hub, as by diffusers
        result = typer.main.get_command(app).main(arguments, prog_name="medzoo", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except MedzooError as error:
        return _report(error.message, error.hint, error.exit_code)
    except _ClickException as error:
        return _report_usage(error)
    except SystemExit as error:  # the command line itself exits only when its output is no longer read
        own = not arguments or arguments[0] in VERBS
        from medzoo.plugins.guard import exit_error

        if not own or (stopped := exit_error(error)) is None:
            raise
        return _report(stopped.message, stopped.hint, stopped.exit_code)
    except OSError as error:
        if error.errno not in _DISK and not isinstance(error, PermissionError):
            raise
        return _report_os_error(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        from medzoo.plugins.guard import plugin_at_fault

        if is_out_of_memory(error) or (row := plugin_at_fault(error)) is None:
            raise
        return _report_plugin(row, error)
    return _report_interrupt() if code == INTERRUPTED else code


def _report_interrupt() -> int:
    logger.info("interrupted; run the same command again to resume")
    return INTERRUPTED


def _report_os_error(error: OSError) -> int:
    """Log that a file or the output cannot be used; return 6."""
    name = error.filename or "the output"
    if isinstance(error, PermissionError):
        message, hint = f"cannot use {name}: permission is denied", "check its permissions or choose another folder"
    else:
        message = f"cannot write {name}: {_DISK.get(error.errno or 0, error.strerror)}"
        hint = "free some space or choose another folder"
    return _report(message, hint, ResourceError.exit_code)


def _report_plugin(row: "PluginInfo", error: Exception) -> int:
    """Log what a plugin raised, with its traceback; return 3."""
    from medzoo.plugins.foreign_errors import failure

    logger.info("its traceback:", exc_info=error)
    hint = "`medzoo plugin check` may show more; report it to the plugin's author"
    return _report(f"plugin '{row.name}' of {row.distribution} raised {failure(error)}", hint, PluginError.exit_code)


def _report(message: str, hint: str, code: int) -> int:
    """Log an error and return the exit code; after Ctrl-C, only that, as the error is a consequence of it."""
    if _interrupts:
        return _report_interrupt()
    logger.error(message, extra={"hint": hint})
    return code


def _report_usage(error: Any) -> int:
    """Log a wrong option or argument like every other error; return 2."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    path = error.ctx.command_path if getattr(error, "ctx", None) else "medzoo"
    near = getattr(error, "possibilities", None)
    hint = f"did you mean {' or '.join(sorted(near))}? " if near else ""
    message = error.message if near else error.format_message()
    return _report(message[:1].lower() + message[1:].rstrip("."), f"{hint}`{path} --help` describes it", 2)


def _new_app() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _command(name: str, verb: Verb) -> Any:
    """Return the function or app as a click command called `name`."""
    if isinstance(verb, typer.Typer):
        command: Any = typer.main.get_group(verb)
        command.name = name
        return command
    single = _new_app()
    single.command(name)(verb)
    return typer.main.get_command(single)
