"""The `medzoo` command: its verbs, each imported when asked for, and errors as exit codes."""

import errno
import io
import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from medzoo.cli.output import logging_to_stderr
from medzoo.errors import MedzooError, PluginError, ResourceError, UnknownName

if TYPE_CHECKING:
    from medzoo.plugins.lookup import PluginInfo

logger = logging.getLogger(__name__)


# typer keeps click's base classes to itself, and under another name from one version to the next.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]
_ClickException: type[Any] = _UsageError.__bases__[0]

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "it is read-only"}
_INTERRUPTED = 130

Verb = Callable[..., None] | typer.Typer


def _list() -> Verb:
    from medzoo.cli.list import list_models

    return list_models


def _show() -> Verb:
    from medzoo.cli.show import show

    return show


def _pull() -> Verb:
    from medzoo.cli.pull import pull

    return pull


def _mirror() -> Verb:
    from medzoo.cli.mirror import mirror

    return mirror


def _cache() -> Verb:
    from medzoo.cli.cache import app

    return app


def _data() -> Verb:
    from medzoo.cli.data import app

    return app


def _plugin() -> Verb:
    from medzoo.cli.plugin import app

    return app


def _train() -> Verb:
    from medzoo.cli.train import train

    return train


def _sample() -> Verb:
    from medzoo.cli.sample import sample

    return sample


def _inspect() -> Verb:
    from medzoo.cli.inspect import inspect

    return inspect


def _augment() -> Verb:
    from medzoo.cli.augment import augment

    return augment


def _evaluate() -> Verb:
    from medzoo.cli.evaluate import evaluate

    return evaluate


def _classify() -> Verb:
    from medzoo.cli.classify import app

    return app


def _experiment() -> Verb:
    from medzoo.cli.experiment import app

    return app


def _card() -> Verb:
    from medzoo.cli.card import card

    return card


def _push() -> Verb:
    from medzoo.cli.push import push

    return push


def _registry() -> Verb:
    from medzoo.cli.registry import app

    return app


def _doctor() -> Verb:
    from medzoo.cli.doctor import doctor

    return doctor


VERBS: Mapping[str, Callable[[], Verb]] = {
    "list": _list,
    "show": _show,
    "pull": _pull,
    "mirror": _mirror,
    "cache": _cache,
    "train": _train,
    "sample": _sample,
    "inspect": _inspect,
    "augment": _augment,
    "classify": _classify,
    "experiment": _experiment,
    "evaluate": _evaluate,
    "card": _card,
    "push": _push,
    "data": _data,
    "plugin": _plugin,
    "registry": _registry,
    "doctor": _doctor,
}


class Verbs(TyperGroup):
    """The group of all verbs; plugins are asked for theirs only when help or an unknown word needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs, medzoo's own first."""
        return [*VERBS, *self._foreign()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command. Raises: UnknownName."""
        if cmd_name in VERBS:
            return _command(cmd_name, VERBS[cmd_name]())
        foreign = self._foreign()
        if cmd_name in foreign or cmd_name.startswith("-"):
            return foreign.get(cmd_name)
        raise UnknownName("command", cmd_name, [*VERBS, *foreign], "`medzoo --help` describes them")

    def _foreign(self) -> dict[str, Any]:
        """Plugins' commands by name; one that would hide a verb or another plugin's command is left out, and named."""
        from medzoo.plugins.lookup import load_plugins

        plugins, apps = load_plugins().commands(_new_app)
        commands: dict[str, Any] = {}
        for row, app in apps:
            for name, command in typer.main.get_group(app).commands.items():
                if name in VERBS or name in commands:
                    logger.warning(
                        f"plugin '{row.name}' of {row.distribution}: its command '{name}' is taken and left out"
                    )
                else:
                    commands[name] = command
        if hint := plugins.broken_hint:
            logger.warning(hint.strip("()"))
        return commands


app = typer.Typer(
    cls=Verbs, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


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
    """Nothing; runs the command line and exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A class name that the terminal's encoding lacks is shown escaped, and stops no job.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `medzoo` with these arguments and return its exit code; expected errors print one line and a hint."""
    with logging_to_stderr():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="medzoo", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except MedzooError as error:
        return _tell(error.message, error.hint, error.exit_code)
    except _ClickException as error:
        return _tell_usage(error)
    except PermissionError as error:
        refused = ResourceError(f"cannot use {error.filename or 'the output'}: permission is denied")
        return _tell(refused.message, "see to its permissions or choose another folder", refused.exit_code)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        refused = ResourceError(f"cannot write {error.filename or 'the output'}: {_DISK[error.errno]}")
        return _tell(refused.message, "free some space or choose another folder", refused.exit_code)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        from medzoo.plugins.lookup import plugin_at_fault

        if (row := plugin_at_fault(error)) is None:
            raise
        return _tell_plugin_s(row, error)
    if code == _INTERRUPTED:
        logger.info("interrupted; run the same command again to go on")
    return code


def _tell_plugin_s(row: "PluginInfo", error: Exception) -> int:
    """3; what a plugin raised is told with its traceback, for its author."""
    import traceback

    from medzoo.plugins.foreign_errors import failure

    logger.info("".join(traceback.format_exception(error)).rstrip())
    hint = "`medzoo plugin check` may show more; tell its author"
    return _tell(f"plugin '{row.name}' of {row.distribution} raised {failure(error)}", hint, PluginError.exit_code)


def _tell(message: str, hint: str, code: int) -> int:
    logger.error(message + (f"\n  {hint}" if hint else ""))
    return code


def _tell_usage(error: Any) -> int:
    """2; a wrong option or argument is told in the shape of every other error."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    path = error.ctx.command_path if getattr(error, "ctx", None) else "medzoo"
    near = getattr(error, "possibilities", None)
    hint = f"did you mean {' or '.join(sorted(near))}? " if near else ""
    message = error.message if near else error.format_message()
    return _tell(message[:1].lower() + message[1:].rstrip("."), f"{hint}`{path} --help` describes it", 2)


def _new_app() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _command(name: str, verb: Verb) -> Any:
    """The verb as a click command called `name`."""
    if isinstance(verb, typer.Typer):
        command: Any = typer.main.get_group(verb)
        command.name = name
        return command
    single = _new_app()
    single.command(name)(verb)
    return typer.main.get_command(single)
