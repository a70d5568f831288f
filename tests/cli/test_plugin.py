import json

import pytest

from medzoo.data.phantom import write_phantom
from medzoo.testing import CheckResult


def test_plugin_list(medzoo):
    lines = [line.split() for line in medzoo("plugin", "list").out.splitlines()]
    assert lines[0] == ["plugin", "distribution", "version", "state", "provides"]
    assert any(line[0] == "ddpm" and line[3:] == ["ok", "generator", "ddpm"] for line in lines)


def test_plugin_list_broken_plugin_and_traceback(medzoo, install_plugin):
    install_plugin("foreign", "raise OSError('no license server')", distribution="foreign-zoo")
    brief = medzoo("plugin", "list")
    assert brief.code == 0
    assert "OSError: no license server" in brief.out
    assert "Traceback" not in brief.out
    full = medzoo("plugin", "list", "--verbose")
    assert "Traceback" in full.out
    assert "raise OSError" in full.out


def test_plugin_list_failing_register_commands(medzoo, install_plugin):
    install_plugin(
        "foreign", "import medzoo\n@medzoo.hookimpl\ndef register_commands(app):\n    raise ValueError('no')\n"
    )
    rows = {row["name"]: row for row in json.loads(medzoo("plugin", "list", "--json").out)}
    assert rows["foreign"]["state"] == "broken"
    assert rows["foreign"]["error"].startswith("ValueError: no (")
    assert rows["ddpm"]["state"] == "ok"


def test_plugin_list_hooks(medzoo):
    lines = [line.split() for line in medzoo("plugin", "list", "--hooks").out.splitlines()]
    assert lines[0] == ["plugin", "distribution", "version", "state", "hooks"]
    assert next(line for line in lines if line[0] == "metrics")[4:] == ["register_extractors,", "register_metrics"]
    rows = {row["name"]: row for row in json.loads(medzoo("plugin", "list", "--json").out)}
    assert rows["classifiers"]["hooks"] == ["register_classifiers"]


def test_plugin_disable_and_enable(medzoo, install_plugin):
    install_plugin("foreign", "raise OSError('no license server')", distribution="foreign-zoo")
    assert medzoo("plugin", "disable", "foreign").out == "foreign-zoo/foreign disabled\n"
    assert medzoo("list").err.count("foreign") == 0
    assert ["foreign", "foreign-zoo", "1.0", "disabled"] in [
        row.split() for row in medzoo("plugin", "list").out.splitlines()
    ]
    outcome = medzoo("train", "foreign", "--data", "x", "--out", "y")
    assert (outcome.code, "medzoo plugin enable foreign" in outcome.err) == (3, True)
    enabled = json.loads(medzoo("plugin", "enable", "foreign", "--json").out)
    assert enabled["state"] == "broken"
    assert enabled["error"].startswith("OSError: no license server (")
    assert medzoo("plugin", "disable", "forein").code == 2


def test_plugin_list_json_excludes_plugin_output(medzoo, install_plugin):
    install_plugin(
        "foreign",
        "import medzoo\nprint('welcome')\nregister_generators = medzoo.hookimpl(lambda: [])",
        distribution="foreign-zoo",
    )
    outcome = medzoo("plugin", "list", "--json")
    (row,) = [row for row in json.loads(outcome.out) if row["name"] == "foreign"]
    assert row["error"] == ""
    assert "welcome" in outcome.err


FAULTY = """
import sys
from dataclasses import dataclass
from pathlib import Path
import medzoo
from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings

@dataclass(frozen=True, kw_only=True)
class Config:
    image: ImageSettings = ImageSettings(size=16)

class Faulty:
    def __init__(self, image):
        self.image = image

    def fit(self, data, *, seed, callback, checkpoints):
        sys.stdout.write("fitting\\n")
        callback.on_step_end(1, 1, {{"loss": 0.0}})
        {fault}

    def sample(self, seeds, labels, *, init_images=None):
        import torch
        return torch.zeros(len(seeds), 1, 16, 16)

    def state_dict(self):
        return {{}}

    def load_state_dict(self, state):
        pass

def build(config, image, device):
    return Faulty(image)

@medzoo.hookimpl
def register_generators():
    presets = Path(__file__).parent / "presets"
    return [medzoo.GeneratorSpec(contract=2, name="faulty", summary="x", config=Config, presets=presets, build=build)]
"""


@pytest.fixture
def faulty(install_plugin, tmp_path):
    """Install a generator whose fit does this at its end; its images lie in `tmp_path`/data."""

    def install(fault):
        site = install_plugin("faulty", FAULTY.format(fault=fault), distribution="faulty-zoo")
        (site / "presets").mkdir()
        (site / "presets" / "default.toml").write_text("")
        write_phantom(tmp_path / "data", counts={"normal": 2, "thick-wall": 2}, size=16, seed=0)

    return install


def test_train_plugin_error_exits_3(medzoo, faulty, tmp_path):
    faulty("raise KeyError('oops')")
    outcome = medzoo("train", "faulty", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert outcome.code == 3
    assert "Traceback" in outcome.err
    assert "error: plugin 'faulty' of faulty-zoo raised KeyError: 'oops' (" in outcome.err
    assert outcome.err.splitlines()[-2].endswith(".py:20)")


def test_train_plugin_output_goes_to_stderr(medzoo, faulty, tmp_path):
    faulty("return")
    outcome = medzoo("train", "faulty", "--data", tmp_path / "data", "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["job"] == "train"
    assert "fitting" in outcome.err


def test_evaluate_failing_metric_keeps_other_results(medzoo, install_plugin, tmp_path):
    install_plugin(
        "far",
        "import medzoo\n\ndef far(real, fake, *, seed):\n    return 1 / 0\n\n@medzoo.hookimpl\n"
        "def register_metrics():\n    return [medzoo.MetricSpec(contract=2, name='far', summary='x', unit='x',"
        " higher_is_better=False, build=lambda: far, needs_pixels=True)]\n",
    )
    for name, seed in (("real", 1), ("fake", 2)):
        write_phantom(tmp_path / name, counts={"normal": 3, "thick-wall": 3}, size=16, seed=seed)
    metrics = ("--metric", "far", "--metric", "intensity")
    outcome = medzoo("evaluate", "--real", tmp_path / "real", "--fake", tmp_path / "fake", *metrics)
    assert outcome.code == 3
    assert any(line.startswith("intensity  ") for line in outcome.out.splitlines())
    assert "metric 'far': it failed: ZeroDivisionError: division by zero (" in outcome.err
    alone = medzoo("evaluate", "--real", tmp_path / "real", "--fake", tmp_path / "fake", "--metric", "far")
    assert (alone.code, "ZeroDivisionError" in alone.err) == (3, True)


@pytest.fixture
def checks(monkeypatch):
    """Results that the conformance kit then gives for any generator."""
    results = [CheckResult(name="shape", passed=True, detail="4 images", seconds=0.5)]
    monkeypatch.setattr("medzoo.testing.check_generator", lambda spec, *, device, overrides: results)
    return results


def test_plugin_check_pass_exits_0(medzoo, checks):
    outcome = medzoo("plugin", "check", "classic")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[1].split() == ["ok", "shape", "0.50", "4", "images"]


def test_plugin_check_failure_exits_3(medzoo, checks):
    checks.append(CheckResult(name="range", passed=False, detail="2.5 is above 1", seconds=0.1))
    outcome = medzoo("plugin", "check", "classic")
    assert outcome.code == 3
    assert "FAILED" in outcome.out
    assert outcome.err == "error: 'classic' fails 1 of 2 checks: range\n"
    assert json.loads(medzoo("plugin", "check", "classic", "--json").out)[1]["passed"] is False


def test_plugin_check_generator(medzoo):
    outcome = medzoo("plugin", "check", "duplicate")
    assert outcome.code == 0, outcome.out


def test_plugin_check_metric(medzoo):
    outcome = medzoo("plugin", "check", "wasserstein")
    assert outcome.code == 0, outcome.out
    assert "identity" in outcome.out


def test_plugin_check_unknown_name_suggests_nearest(medzoo):
    outcome = medzoo("plugin", "check", "clasic")
    assert outcome.code == 2
    assert "did you mean classic" in outcome.err
