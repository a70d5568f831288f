"""What is printed: results to stdout alone, and texts of others without their control characters."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from medzoo.cli.output import logging_to_stderr, print_json, print_table, print_text
from medzoo.errors import escape_control

EVIL = "a\x1b]0;TITLE\x07\x1b[2J\nforged\r\x9b31m\u202eb\u2028c"
SHOWN = "a\\x1b]0;TITLE\\x07\\x1b[2J\\nforged\\r\\x9b31m\\u202eb\\u2028c"


@pytest.mark.parametrize("text", ["", "plain", "Ödem", "胸部", "א ב", "a\u00a0b", "👩\u200d⚕", "\\n"])
def test_escape_control_keeps_text(text):
    assert escape_control(text) == text


def test_escape_control():
    assert escape_control(EVIL) == SHOWN
    assert escape_control("".join(map(chr, range(32)))).isprintable()


def test_print_text_and_table_escape_control_characters(capsys):
    print_text(EVIL, "second")
    print_table(("name",), [(EVIL,)])
    assert capsys.readouterr().out == f"{SHOWN}\nsecond\nname\n{SHOWN}\n"


def test_print_json_escapes_control_characters_and_keeps_the_value(capsys):
    print_json({"name": EVIL, "class": "Ödem"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": EVIL, "class": "Ödem"}
    assert escape_control(text.replace("\n", "")) == text.replace("\n", "")


def test_log_escapes_control_characters(capsys):
    with logging_to_stderr():
        logging.getLogger("medzoo.test").warning("class '%s'", EVIL)
        logging.getLogger("medzoo.test").error(EVIL, extra={"hint": EVIL})
        try:
            raise ValueError(EVIL)
        except ValueError:
            logging.getLogger("medzoo.test").info("its traceback:", exc_info=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [f"warning: class '{SHOWN}'", f"error: {SHOWN}", f"  {SHOWN}"]
    assert lines[3:5] == ["its traceback:", "Traceback (most recent call last):"]
    assert not any("\x1b" in line or "\x9b" in line for line in lines)


def test_show_and_list_escape_a_registry(medzoo, publish):
    published = publish("ddpm-test")
    text = published.registry.read_text()
    text = text.replace('summary = "a model for a test"', f"summary = {json.dumps(EVIL)}")
    published.registry.write_text(text.replace('classes = ["a", "b"]', 'classes = ["a\\nforged  row"]'))
    for command in (("show", "ddpm-test"), ("list",), ("registry", "check")):
        outcome = medzoo(*command)
        assert "\x1b" not in outcome.out + outcome.err
        assert "\nforged" not in outcome.out + outcome.err
    assert SHOWN in medzoo("show", "ddpm-test").out
    problems = json.loads(medzoo("registry", "check", "--json").out)
    messages = [problem["message"] for problem in problems if problem["entry"] == "ddpm-test"]
    assert f"summary contains control characters: {SHOWN}" in messages
    assert "classes contains control characters: a\\nforged  row" in messages


def test_error_about_a_foreign_name_is_one_line(medzoo):
    outcome = medzoo("show", EVIL)
    assert outcome.err.startswith(f"error: unknown model, asset or plugin '{SHOWN}'\n")
    assert len(outcome.err.splitlines()) == 2


def shell(command, **variables):
    """Run a shell command in which $M is medzoo."""
    environment = {**os.environ, **variables, "M": f"{sys.executable} -m medzoo"}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$M list >&-", 0),
        ("$M list --json >&- 2>&-", 0),
        ("$M list --json <&- >&-", 0),
        ("$M list >/dev/full", 6),
        ("$M show ddpm-udder --json >/dev/full", 6),
    ],
)
def test_output_that_cannot_be_written(command, code):
    if "/dev/full" in command and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    done = shell(command)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("error: cannot write the output: the disk is full" in done.stderr) == (code == 6)


def test_text_that_a_plugin_writes_to_file_descriptor_1(install_plugin):
    source = (
        "import os, subprocess, medzoo\nos.write(1, b'noise 1\\n')\nprint('noise 2')\n"
        "subprocess.run(['echo', 'noise 3'])\n"
        "@medzoo.hookimpl\ndef register_generators():\n    os.system('echo noise 4')\n    return []\n"
    )
    site = install_plugin("noisy", source)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = shell("$M list --json", PYTHONPATH=path)
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert [f"noise {number}" in done.stderr for number in (1, 2, 3, 4)] == [True] * 4
