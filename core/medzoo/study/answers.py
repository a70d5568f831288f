"""Read the answer files of a reading study, and refuse what is not a whole set of answers of one reader to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import DataError
from medzoo.storage.files import read_json, without_checksum
from medzoo.study.key import CLASS, ORIGIN, ORIGIN_LEVELS, QUALITY, QUALITY_LEVELS, Study

FORMAT = "medzoo-study-answers"
VERSION = 1

_MOST_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answers to one trial, by task and counted from 1, and the milliseconds that they took."""

    given: Mapping[str, int]
    milliseconds: int
    adjusted: bool


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader by code, with years of experience if given, and the answers by trial."""

    code: str
    experience: int | None
    started: str
    finished: str
    file: Path
    answers: Mapping[str, Answer]


def answer_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are given, and the *.json files in folders. Raises: DataError where there are none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob("*.json"))
        else:
            found.append(path)
    if not found:
        raise DataError("there are no answer files", "give the JSON files that readers sent, or a folder of them")
    return found


def read_answers(study: Study, paths: Sequence[Path]) -> list[Reader]:
    """Return the readers of a study by the files that they sent, in the order of the files.

    Raises: DataError for a file that is none, damaged, of another study or incomplete, and for two of one reader.
    """
    readers: dict[str, Reader] = {}
    for path in answer_files(paths):
        reader = _read(study, path)
        name = reader.code.casefold()
        if name in readers:
            raise DataError(
                f"{readers[name].file} and {path} are both of reader '{reader.code}'",
                "leave out one of them; two readers with one code have to tell which file is whose",
            )
        readers[name] = reader
    return list(readers.values())


def _read(study: Study, path: Path) -> Reader:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        values = read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("it is another file")
        if values.get("version") != VERSION:
            raise ValueError(f"it is of version {values.get('version')}, and this medzoo reads {VERSION}")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "give the JSON files that readers sent") from None
    except ValueError as error:
        reason = "it is not JSON" if type(error).__name__ in ("JSONDecodeError", "UnicodeDecodeError") else str(error)
        raise DataError(f"{path} is not an answer file of a reading study: {reason}", "leave it out") from None
    try:
        values = without_checksum(values, required=True)
    except (ValueError, KeyError):
        raise DataError(
            f"{path} was changed or damaged after the reader saved it: its content differs from the checksum in it",
            "ask the reader for the file again",
        ) from None
    if values.get("study") != study.id:
        raise DataError(
            f"{path} answers another study ({values.get('study')}), not this one ({study.id})", "leave it out"
        )
    try:
        return _parse(study, path, values)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is not a valid answer file: {reason}", "ask the reader for the file again") from None


def _parse(study: Study, path: Path, values: Mapping[str, Any]) -> Reader:
    levels = {ORIGIN: ORIGIN_LEVELS, CLASS: len(study.classes), QUALITY: QUALITY_LEVELS}
    known = {trial.id for trial in study.trials}
    answers: dict[str, Answer] = {}
    for one in values["answers"]:
        name = one["trial"]
        if name not in known:
            raise ValueError(f"trial '{name}' is not one of the study's")
        if name in answers:
            raise ValueError(f"trial '{name}' is answered twice")
        given = {task: _whole(one[task], 1, levels[task], task) for task in study.tasks}
        answers[name] = Answer(
            given=given,
            milliseconds=_whole(one["milliseconds"], 0, 10**12, "milliseconds"),
            adjusted=bool(one["adjusted"]),
        )
    if len(answers) < len(known):
        raise DataError(
            f"{path} is incomplete: it answers {len(answers)} of {len(known)} trials",
            "the reader's browser has kept them: ask the reader to finish on the page there, or leave the file out",
        )
    code, years = str(values["reader"]).strip(), values.get("experience")
    if not code or len(code) > 40:
        raise ValueError("its reader code is empty or longer than 40 letters")
    return Reader(
        code=code,
        experience=None if years is None else _whole(years, 0, 100, "experience"),
        started=str(values["started"]),
        finished=str(values["finished"]),
        file=path,
        answers=answers,
    )


def _whole(value: object, low: int, high: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not a whole number from {low} to {high}")
    return value
