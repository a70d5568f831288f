"""Answer files of a reading study: what is refused, and why in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.reading_study import answers_of, made_study, write_answers

from medzoo.errors import DataError
from medzoo.study.answers import read_answers
from medzoo.study.key import Study, Trial

STUDY = made_study(per_class=2, repeats=1)


def same_answers(study: Study, trial: Trial) -> dict[str, int]:
    """What a reader answers who does not look."""
    return dict.fromkeys(study.tasks, 1)


def test_read_answers_of_a_folder(tmp_path: Path) -> None:
    for code in ("r2", "r1"):
        write_answers(tmp_path, answers_of(STUDY, code, same_answers))
    found = read_answers(STUDY, [tmp_path])
    assert [reader.code for reader in found] == ["r1", "r2"]
    assert found[0].experience == 5
    assert set(found[0].answers) == {trial.id for trial in STUDY.trials}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(study="f" * 16), "answers another study (ffffffffffffffff), not this one (0123"),
        (lambda values: values["answers"].pop(), "is incomplete: it answers 8 of 9 trials"),
        (lambda values: values["answers"].append(values["answers"][0]), "trial '000000000000' is answered twice"),
        (lambda values: values["answers"][0].update(trial="zz"), "trial 'zz' is not one of the study's"),
        (lambda values: values["answers"][0].update(origin=7), "origin is 7, not a whole number from 1 to 6"),
        (lambda values: values["answers"][0].update({"class": 3}), "class is 3, not a whole number from 1 to 2"),
        (lambda values: values["answers"][0].pop("quality"), "quality is missing"),
        (lambda values: values.update(reader=" "), "its reader code is empty"),
        (lambda values: values.update(version=2), "it is of version 2, and this medzoo reads 1"),
        (lambda values: values.update(format="other"), "is not an answer file of a reading study: it is another file"),
    ],
)
def test_read_answers_what_is_refused(tmp_path, change, message) -> None:
    values = answers_of(STUDY, "r1", same_answers)
    change(values)
    path = write_answers(tmp_path, values, name="r1")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_answers(STUDY, [path])
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_read_answers_changed_after_saving(tmp_path: Path) -> None:
    path = write_answers(tmp_path, answers_of(STUDY, "r1", same_answers))
    path.write_text(path.read_text().replace('"origin": 1', '"origin": 6', 1))
    with pytest.raises(DataError, match="was changed or damaged after the reader saved it"):
        read_answers(STUDY, [path])
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}))
    with pytest.raises(DataError, match="was changed or damaged"):
        read_answers(STUDY, [path])


def test_read_answers_two_files_of_one_reader(tmp_path: Path) -> None:
    first = write_answers(tmp_path, answers_of(STUDY, "Ann", same_answers), name="a")
    second = write_answers(tmp_path, answers_of(STUDY, "ann", same_answers), name="b")
    with pytest.raises(DataError, match=re.escape(f"{first} and {second} are both of reader 'ann'")):
        read_answers(STUDY, [first, second])


def test_read_answers_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no answer files"):
        read_answers(STUDY, [tmp_path])
    with pytest.raises(DataError, match="does not exist"):
        read_answers(STUDY, [tmp_path / "r1.json"])
    (tmp_path / "r1.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="it is not JSON"):
        read_answers(STUDY, [tmp_path / "r1.json"])
