"""Plugins do not end the program, and change neither its folder nor its environment."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import medzoo as package
from medzoo.data.images import write_image
from medzoo.errors import PluginError
from medzoo.plugins.guard import exits_as_errors
from medzoo.plugins.lookup import load_plugins

PLUGIN = """
import os, sys, contextlib, json
from dataclasses import dataclass
from pathlib import Path
from torch import nn
from medzoo import GeneratorSpec, hookimpl
from medzoo.toolkit.settings import ImageSettings
{top}

@dataclass(frozen=True, kw_only=True)
class Config:
    image: ImageSettings = ImageSettings()

def build(config, image, device):
    {build}
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.weight = image, nn.Parameter(image and __import__("torch").zeros(1))
        def fit(self, data, *, seed, callback=None, checkpoints=None):
            {fit}
        def sample(self, seeds, labels, *, init_images=None):
            import torch
            return torch.zeros(len(seeds), image.channels, image.size, image.size)
    return Model()

@hookimpl
def register_generators():
    {register}
    presets = Path(__file__).parent / "presets"
    return [GeneratorSpec(contract=2, name="evil", summary="", config=Config, presets=presets, build=build)]
"""


@pytest.fixture
def install(install_plugin):
    """Install the generator `evil`, with these statements at these places."""

    def make(**places):
        filled = {"top": "pass", "build": "pass", "fit": "pass", "register": "pass"} | places
        site = install_plugin("evil", PLUGIN.format(**filled), distribution="evil-zoo")
        (site / "presets").mkdir(exist_ok=True)
        for preset in ("default", "tiny"):
            (site / "presets" / f"{preset}.toml").write_text("[image]\nsize = 8\n")

    return make


@pytest.fixture
def images(tmp_path):
    for number in range(4):
        write_image(tmp_path / "set" / "a" / f"{number}.png", np.full((1, 8, 8), 50 * number, np.uint8))
    return tmp_path / "set"


@pytest.mark.parametrize("place", ["fit", "build"])
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("sys.exit(0)", "called sys.exit(0)"),
        ("sys.exit()", "called sys.exit()"),
        ("raise SystemExit('done')", "called sys.exit('done')"),
        ("exit(4)", "called sys.exit(4)"),
        ("os.chdir('/')", "changed the current folder to /"),
        ("contextlib.chdir('/').__enter__()", "changed the current folder to /"),
        ("os.environ['EVIL'] = '1'", "changed the environment variable EVIL"),
        ("os.environ.pop('HOME')", "changed the environment variable HOME"),
        ("os.putenv('EVIL', '1')", "changed the environment variable EVIL"),
    ],
)
def test_train_plugin_that_changes_the_process(medzoo, install, images, tmp_path, place, statement, message):
    install(**{place: statement})
    folder, environment = Path.cwd(), dict(os.environ)
    outcome = medzoo("train", "evil", "--data", images, "--out", tmp_path / "run")
    assert (outcome.code, outcome.out) == (3, "")
    error = next(line for line in outcome.err.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: plugin 'evil' of evil-zoo {message}")
    assert ".py:" in error
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "run.json").exists()
    assert Path.cwd() == folder
    assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**environment, "PYTEST_CURRENT_TEST": ""}


def test_train_from_python_plugin_that_exits(install, images, tmp_path):
    install(fit="sys.exit(0)")
    with pytest.raises(PluginError, match=r"plugin 'evil' of evil-zoo called sys\.exit\(0\)"):
        package.train("evil", data=images, out=tmp_path / "run")


@pytest.mark.parametrize("place", ["top", "register"])
@pytest.mark.parametrize("statement", ["os.chdir('/')", "os.environ['EVIL'] = '1'"])
def test_load_plugins_that_change_the_process(install, place, statement):
    install(**{place: statement})
    folder = Path.cwd()
    (info,) = (info for info in load_plugins().infos if info.name == "evil")
    assert info.state == "broken"
    assert "plugin 'evil' of evil-zoo changed the" in info.error
    assert Path.cwd() == folder
    assert "EVIL" not in os.environ


def test_load_plugins_same_value_or_a_library(install, monkeypatch):
    monkeypatch.setenv("SAME", "1")
    library = "exec(compile(\"import os; os.environ['OF_TORCH'] = '1'\", 'torch.py', 'exec'), {'__name__': 'torch'})"
    install(top=f"os.environ['SAME'] = '1'\n{library}")
    assert "evil" in load_plugins().generators
    assert os.environ.pop("OF_TORCH") == "1"


def test_exits_as_errors_of_other_code():
    with pytest.raises(SystemExit), exits_as_errors():
        raise SystemExit(3)
    os.environ["MINE"] = "1"
    assert os.environ.pop("MINE") == "1"


def test_command_of_a_plugin_may_exit(medzoo, install_plugin):
    source = (
        "import medzoo, sys\n@medzoo.hookimpl\ndef register_commands(app):\n"
        "    @app.command('leave')\n    def leave():\n        'Leave.'\n        sys.exit(5)\n"
        "    @app.command('other')\n    def other():\n        pass\n"
    )
    install_plugin("foreign", source)
    with pytest.raises(SystemExit) as caught:
        medzoo("leave")
    assert caught.value.code == 5
