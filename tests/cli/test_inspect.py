"""`medzoo inspect` as it is typed: in an empty folder, twice, as JSON, and with what it cannot look at."""

from __future__ import annotations

import json

import pytest
from helpers.tiny import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_inspect_prints_files_and_what_is_left_out(medzoo, model, tmp_path):
    outcome = medzoo("inspect", model, "--out", "labels", "--device", "cpu")
    assert outcome.code == 0
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["labels"]
    printed = outcome.out.splitlines()
    assert "labels/cosine.csv" in printed
    assert all((tmp_path / "here" / line).is_file() for line in printed)
    assert {path.name for path in (tmp_path / "here" / "labels").iterdir() if not path.name.startswith(".")} == {
        "run.json",
        *(line.removeprefix("labels/") for line in printed),
    }
    assert "left out attention maps: the network has no cross-attention to label tokens" in outcome.err
    again = medzoo("inspect", model, "--out", "labels", "--device", "cpu")
    assert again.code == 0
    assert again.out == outcome.out
    assert "nothing to do" in again.err


def test_inspect_json(medzoo, model):
    outcome = medzoo("inspect", model, "--out", "labels", "--device", "cpu", "--json")
    told = json.loads(outcome.out)
    assert told["folder"] == "labels"
    assert "norms.png" in told["files"]
    assert any(line.startswith("t-SNE: ") for line in told["left_out"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["classic"], "error: 'classic' has no weights"),
        (["ddpm-bussi"], "'ddpm-bussi'"),
        (["MODEL", "--label", "nomal"], "error: unknown class 'nomal'"),
        (["hf:org/model", "--from", "bundled"], "error: 'hf:org/model' is on the Hub, not in bundled"),
        (["MODEL", "--n", "0"], "error: invalid value for '--n'"),
    ],
)
def test_inspect_invalid_model_exits_2(medzoo, model, tmp_path, given, message):
    arguments = [model if word == "MODEL" else word for word in given]
    outcome = medzoo("inspect", *arguments, "--out", "labels", "--device", "cpu")
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.out == ""
    assert list((tmp_path / "here").iterdir()) == []
