import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import medzoo as package
from medzoo.cli import app
from medzoo.cli.app import VERBS
from medzoo.data.images import write_image
from medzoo.errors import ConfigError, DataError, HubError, IntegrityError, PluginError, ResourceError

ADDING = (
    "import medzoo\n@medzoo.hookimpl\ndef register_commands(app):\n"
    "    @app.command({0!r})\n    def command(times: int = 1):\n        'Greet.'\n        {1}\n"
    "    @app.command('second')\n    def second():\n        pass\n"
)


def test_medzoo_without_arguments_prints_help(medzoo):
    outcome = medzoo()
    assert outcome.code == 2
    for verb in VERBS:
        assert f"  {verb} " in outcome.out + outcome.err


def test_help_describes_every_command_in_one_line(medzoo):
    outcome = medzoo("--help")
    assert outcome.code == 0
    assert "..." not in outcome.out.replace("[ARGS]...", "")


@pytest.mark.parametrize("verb", VERBS)
def test_command_help(medzoo, verb):
    outcome = medzoo(verb, "--help")
    assert outcome.code == 0
    assert f"Usage: medzoo {verb}" in outcome.out


def test_version(medzoo):
    assert medzoo("--version").out == f"medzoo {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["lst"], "unknown command 'lst'", "did you mean list"),
        (["list", "--jsn"], "no such option: --jsn", "did you mean --json? `medzoo list --help` describes it"),
        (["--verison"], "no such option: --verison", "did you mean --version?"),
        (["plugin", "chek"], "no such command 'chek'", "'check'"),
        (["show"], "missing argument 'ID'", "`medzoo show --help` describes it"),
        (["show", "a", "b"], "got unexpected extra argument", "`medzoo show --help`"),
    ],
)
def test_unknown_command_or_option_exits_2(medzoo, arguments, message, hint):
    outcome = medzoo(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith(f"error: {message}")
    assert hint in outcome.err
    assert len(outcome.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 2), (PluginError, 3), (HubError, 4), (IntegrityError, 4), (DataError, 5), (ResourceError, 6)],
)
def test_error_message_hint_and_exit_code(medzoo, monkeypatch, error, code):
    def fail(**_):
        raise error("what happened", "what to do")

    monkeypatch.setattr("medzoo.cli.list.load_registry", fail)
    outcome = medzoo("list")
    assert outcome.code == code
    assert outcome.err == "error: what happened\n  what to do\n"


def test_full_disk_is_one_line(medzoo, monkeypatch):
    def fail(**_):
        raise OSError(28, "No space left on device", "out/1.png")

    monkeypatch.setattr("medzoo.cli.list.load_registry", fail)
    outcome = medzoo("list")
    assert outcome.code == 6
    assert outcome.err.startswith("error: cannot write out/1.png: the disk is full")


def test_permission_error_is_one_line(medzoo, monkeypatch):
    def fail(**_):
        raise OSError(13, "Permission denied", "scans/normal")

    monkeypatch.setattr("medzoo.cli.list.load_registry", fail)
    outcome = medzoo("list")
    assert outcome.code == 6
    assert outcome.err.startswith("error: cannot use scans/normal: permission is denied\n  check its permissions")


def test_unexpected_error_keeps_traceback(medzoo, monkeypatch):
    def fail(**_):
        raise ZeroDivisionError

    monkeypatch.setattr("medzoo.cli.list.load_registry", fail)
    with pytest.raises(ZeroDivisionError):
        medzoo("list")


def test_ctrl_c_says_how_to_resume(medzoo, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("medzoo.cli.list.load_registry", interrupt)
    outcome = medzoo("list")
    assert (outcome.code, outcome.err) == (130, "interrupted; run the same command again to resume\n")


def test_sigint_exits_130(install_plugin, user_folders):
    site = install_plugin("slow", "import pathlib, time; pathlib.Path('started').touch(); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "medzoo", "list"],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=user_folders,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    while not (user_folders / "started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err == "interrupted; run the same command again to resume\n"


def test_closed_pipe_is_silent(publish):
    publish("ddpm-test")
    command = f"{sys.executable} -m medzoo list --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_unencodable_name_is_escaped(tmp_path, form):
    write_image(tmp_path / "Ödem" / "a.png", np.zeros((1, 8, 8), np.uint8))
    command = [sys.executable, "-m", "medzoo", "data", "check", str(tmp_path), *form]
    shown = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (rb"\u00d6dem" if form else rb"\xd6dem") in shown.stdout


def test_python_m_medzoo_runs_the_same_command():
    done = subprocess.run([sys.executable, "-m", "medzoo", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"medzoo {package.__version__}\n"


def test_plugin_adds_a_command(medzoo, install_plugin):
    install_plugin("foreign", ADDING.format("greet", "print('hello ' * times)"))
    assert medzoo("greet", "--times", 2).out == "hello hello \n"
    assert "greet" in medzoo("--help").out
    assert "did you mean greet" in medzoo("gret").err


def test_plugin_cannot_replace_a_command(medzoo, install_plugin):
    install_plugin("foreign", ADDING.format("list", "print('mine')"), distribution="foreign-zoo")
    assert "mine" not in medzoo("list").out
    outcome = medzoo("--help")
    assert outcome.out.count("\n  list ") == 1
    assert "plugin 'foreign' of foreign-zoo: command 'list' is left out: the name is taken" in outcome.err


def test_plugin_failing_to_add_commands_keeps_help(medzoo, install_plugin):
    install_plugin(
        "foreign", "import medzoo\n@medzoo.hookimpl\ndef register_commands(app):\n    raise ValueError('no')\n"
    )
    outcome = medzoo("--help")
    assert outcome.code == 0
    assert "broken plugins: foreign" in outcome.err


def test_run_time_limit_that_is_no_number(medzoo, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    outcome = medzoo("list")
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.err.startswith("error: HF_HUB_DOWNLOAD_TIMEOUT=soon is not a whole number of seconds\n")


def test_ctrl_c_while_the_command_line_is_imported():
    program = (
        "import signal, sys\n"
        "import medzoo.cli as command\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'medzoo.cli.app':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.fixture
def main(monkeypatch, capsys):
    """Run `main` as the command does, and return the exit code and what it prints to stderr."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["medzoo", "list"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(app, "_interrupts", [])
    monkeypatch.setattr(app, "_open_streams", lambda **_: None)

    def call():
        with pytest.raises(SystemExit) as ended:
            app.main()
        return ended.value.code, capsys.readouterr().err

    yield call
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "error", [ImportError("numpy failed to import"), DataError("a.png cannot be read"), OSError(5, "")]
)
def test_ctrl_c_that_a_library_turns_into_another_error(main, monkeypatch, error):
    def read(**_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr("medzoo.cli.list.load_registry", read)
    assert main() == (130, "interrupted; run the same command again to resume\n")


def test_ctrl_c_in_a_callback_is_repeated(main, monkeypatch):
    class Callback:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def read(**_):
        made = Callback()
        del made
        time.sleep(60)

    monkeypatch.setattr("medzoo.cli.list.load_registry", read)
    assert main() == (130, "interrupted; run the same command again to resume\n")
