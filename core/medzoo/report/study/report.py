"""The folder of a scored reading study: report.html, tables and figures, and run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.report.figures import RenderedFigure, confusion_figure
from medzoo.report.page import render, svg_image
from medzoo.report.study import text
from medzoo.report.study.figures import ALL, forest_figure, study_roc_figure
from medzoo.report.tables import to_csv, to_json
from medzoo.runs.arguments import require
from medzoo.runs.identity import PLAN
from medzoo.runs.record import RunRecord
from medzoo.storage.files import (
    check_empty,
    make_folder,
    read_json,
    remove_partial_files,
    sha256_file,
    write_atomic,
    write_json_atomic,
)
from medzoo.study.answers import Reader, read_answers
from medzoo.study.key import KEY, Study, read_study
from medzoo.study.power import MARGIN
from medzoo.study.score import (
    ACCURACY,
    CLASS_DIFFERENCE,
    CLASS_REAL,
    CLASS_SYNTHETIC,
    D_PRIME,
    QUALITY_DIFFERENCE,
    QUALITY_MARGIN,
    QUALITY_REAL,
    QUALITY_SYNTHETIC,
    SENSITIVITY,
    SPECIFICITY,
    StudyScores,
    score_answers,
)

REPORT, READERS, ANSWERS, SCORES = "report.html", "readers.csv", "answers.csv", "scores.json"
JOB = "study score"


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """A scored study, its verdict in one sentence, and the files written."""

    scores: StudyScores
    verdict: str
    folder: Path
    files: tuple[Path, ...]


def score_study(
    study: str | Path,
    answers: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    margin: float = MARGIN,
    quality_margin: float = QUALITY_MARGIN,
) -> StudyReport:
    """Score the answers to a reading study and write a report, tables and run.json into `out`.

    `study` is the folder that `new_study` wrote, `answers` are the files that readers sent, or folders of them, and
    `out` is the folder "scores" in the study's unless given; an earlier report in it is replaced. `margin` is what
    counts as equivalent, of the ROC area around 0.5 and of the share of right classes, and `quality_margin` of the mean
    quality.

    Example:
        >>> found = medzoo.score_study("study", ["answers"])
        >>> found.verdict, found.scores.pooled["auc"]

    Raises:
        ConfigError: a margin out of range; an argument of the wrong type.
        DataError: no study; answers that are damaged, incomplete, of another study, or two of one reader.
        ResourceError: the folder cannot be written to.
    """
    require((str, Path), "a path", study=study)
    require((str, Path, type(None)), "a path", out=out)
    require((int, float), "a number", margin=margin, quality_margin=quality_margin)
    for path in answers:
        require((str, Path), "a path", answers=path)
    key = read_study(Path(study))
    readers = read_answers(key, [Path(path) for path in answers])
    scores = score_answers(key, readers, margin=margin, quality_margin=quality_margin)
    folder = Path(study) / "scores" if out is None else Path(out)
    _check_folder(folder)
    record = RunRecord(job=JOB, folder=make_folder(folder))
    write_json_atomic(folder / PLAN, {"job": JOB})
    remove_partial_files(folder)
    files = report_files(scores, readers)
    for name, content in files.items():
        write_atomic(folder / name, content)
    record.add_outputs(folder / name for name in sorted(files))
    record.config = {"margin": margin, "quality_margin": quality_margin}
    record.data = {
        "study": key.id,
        "key_sha256": sha256_file(Path(study) / KEY),
        "answers": {reader.file.name: sha256_file(reader.file) for reader in readers},
    }
    record.scores = scores.to_dict()
    record.finish()
    paths = tuple(folder / name for name in files)
    return StudyReport(scores=scores, verdict=text.verdict(scores), folder=folder, files=paths)


def _check_folder(out: Path) -> None:
    """Check that `out` is new, empty, or holds an earlier report. Raises: DataError."""
    try:
        own = read_json(out / PLAN)["job"] == JOB
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if not own:
        check_empty(out)


def report_files(scores: StudyScores, readers: Sequence[Reader]) -> dict[str, bytes]:
    """Return the files of a report by name."""
    figures = _figures(scores)
    return {
        REPORT: _page(scores, figures),
        READERS: _readers_csv(scores),
        ANSWERS: _answers_csv(scores.study, readers),
        SCORES: to_json({"verdict": text.verdict(scores), **scores.to_dict()}),
        **{f"{name}.png": figure.png for name, figure in figures.items()},
    }


def _figures(scores: StudyScores) -> dict[str, RenderedFigure]:
    figures = {}
    if scores.curves:
        figures["roc"] = study_roc_figure(scores)
    forests: dict[str, tuple[str, str, tuple[float, float] | None]] = {
        scores.main: (
            "Telling synthetic from real images",
            f"{text.LABELS[scores.main]}; the band is the margin",
            (0.0, 1.0),
        ),
        CLASS_DIFFERENCE: ("Right classes: synthetic minus real", "difference; the band is the margin", None),
        QUALITY_DIFFERENCE: ("Quality: synthetic minus real", "difference; the band is the margin", None),
    }
    for name, (title, label, limits) in forests.items():
        if name not in scores.pooled:
            continue
        test = scores.equivalences[name]
        rows = {reader.code: reader.estimates[name] for reader in scores.readers}
        if len(rows) > 1:
            rows[ALL] = scores.pooled[name]
        if limits is None:
            ends = [abs(end) for row in rows.values() for end in (row.value, row.low, row.high) if isfinite(end)]
            reach = 1.1 * max([test.margin, *ends])
        figures[name] = forest_figure(
            rows, title=title, x_label=label, center=test.center, margin=test.margin, limits=limits or (-reach, reach)
        )
    for name, counts in scores.confusion.items():
        figures[f"confusion-{name}"] = confusion_figure(counts, scores.study.classes, title=f"Classes of {name} images")
    return figures


def _page(scores: StudyScores, figures: Mapping[str, RenderedFigure]) -> bytes:
    tables = {
        "Real or synthetic": [
            scores.main,
            *([] if scores.main == ACCURACY else [ACCURACY]),
            SENSITIVITY,
            SPECIFICITY,
            D_PRIME,
        ],
        "Class": [CLASS_REAL, CLASS_SYNTHETIC, CLASS_DIFFERENCE],
        "Quality": [QUALITY_REAL, QUALITY_SYNTHETIC, QUALITY_DIFFERENCE],
    }
    shown = {title: [name for name in names if name in scores.pooled] for title, names in tables.items()}
    values: dict[str, Any] = {
        "scores": scores,
        "study": scores.study,
        "version": __version__,
        "badge": text.badge(scores),
        "verdict": text.verdict(scores),
        "described": text.describe_study(scores),
        "cautions": list(text.cautions(scores)),
        "tables": {title: names for title, names in shown.items() if names},
        "labels": text.LABELS,
        "tasks": text.TASK_LABELS,
        "interval": text.interval,
        "p_value": text.p_value,
        "equivalences": [text.equivalence_sentence(scores, name, test) for name, test in scores.equivalences.items()],
        "methods": text.methods(scores),
        "figures": {name: svg_image(figure) for name, figure in figures.items()},
    }
    return render("study_report.html.j2", values)


def _readers_csv(scores: StudyScores) -> bytes:
    """Write one row a reader and measure, and for several readers one of all of them."""
    rows = [
        {"reader": code, "measure": name, **{field: getattr(found, field) for field in _FIELDS}}
        for code, estimates in [
            *((reader.code, reader.estimates) for reader in scores.readers),
            *([(ALL, scores.pooled)] if len(scores.readers) > 1 else []),
        ]
        for name, found in estimates.items()
    ]
    rows += [
        {
            "reader": reader.code,
            "measure": f"agreement_with_oneself_{task}",
            **{field: getattr(found, field) for field in _FIELDS},
        }
        for reader in scores.readers
        for task, found in reader.agreement.items()
    ]
    rows += [
        {"reader": ALL, "measure": f"agreement_{task}", **{field: getattr(found, field) for field in _FIELDS}}
        for task, found in scores.agreement.items()
    ]
    return to_csv(rows, ("reader", "measure", *_FIELDS))


_FIELDS = ("value", "low", "high", "se", "df", "n", "method", "reason")


def _answers_csv(study: Study, readers: Sequence[Reader]) -> bytes:
    """Write one row an answer, joined with the key: for analyses of one's own."""
    rows = []
    for reader in readers:
        for number, trial in enumerate(study.trials, 1):
            given = reader.answers[trial.id]
            images = [study.images[place] for place in trial.images]
            rows.append(
                {
                    "reader": reader.code,
                    "experience": reader.experience,
                    "trial": number,
                    "repeat": int(bool(trial.repeat_of)),
                    "image": "|".join(one.name for one in images),
                    "truth": "|".join("synthetic" if one.synthetic else "real" for one in images),
                    "true_class": images[0].label,
                    **{f"answer_{task}": given.given[task] for task in study.tasks if task != "class"},
                    **({"answer_class": study.classes[given.given["class"] - 1]} if "class" in study.tasks else {}),
                    "seconds": given.milliseconds / 1000,
                    "adjusted": int(given.adjusted),
                }
            )
    return to_csv(rows, tuple(rows[0]))
