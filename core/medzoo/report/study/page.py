"""Write the page of a reading study: one HTML file that asks, keeps answers in the browser, and ends with a file."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from medzoo._version import __version__
from medzoo.data.images import encode_png
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError
from medzoo.report.page import page_script, render
from medzoo.runs.arguments import class_names, names, require, whole_number
from medzoo.storage.files import check_empty, check_outside, sha256_file, write_atomic
from medzoo.study.design import StudyRequest, design_study
from medzoo.study.key import CLASS, KEY, ORIGIN, PAGE, QUALITY, TASKS, Study, read_study, write_key
from medzoo.study.power import MARGIN, study_power

logger = logging.getLogger(__name__)

TITLE = "Reading study"
ORIGINS = (
    "Surely real",
    "Probably real",
    "Perhaps real",
    "Perhaps synthetic",
    "Probably synthetic",
    "Surely synthetic",
)
SIDES = (
    "Surely the left",
    "Probably the left",
    "Perhaps the left",
    "Perhaps the right",
    "Probably the right",
    "Surely the right",
)
QUALITIES = ("Unusable", "Poor", "Fair", "Good", "Excellent")
_CONSENT = (
    "Taking part is voluntary. You may stop at any time by closing this page, without giving a reason.",
    "This page sends nothing: your answers stay in this browser until you send the file yourself at the end. The file "
    "holds your reader code, your years of experience if you give them, your answers, how long each took, and the "
    "dates on which you began and finished.",
)


@dataclass(frozen=True, kw_only=True)
class NewStudy:
    """A study that was written: the page to send to readers, the key to keep, and what may give images away."""

    study: Study
    page: Path
    key: Path
    already_done: bool


def new_study(
    real: str | Path,
    fake: str | Path,
    *,
    out: str | Path,
    per_class: int = 20,
    tasks: Sequence[str] = TASKS,
    pairs: bool = False,
    repeats: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    crop: str = "none",
    title: str = "",
    instructions: str = "",
    consent: str = "",
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
) -> NewStudy:
    """Write a blinded reading study of real and synthetic images into the folder `out`.

    It gets study.html, one file to send to readers, and key.json, which says what each image is and stays with the
    author. `per_class` images of each class are picked from either set, or pairs of one each with `pairs`; a share
    `repeats` of them is shown twice. `tasks` are among "origin" (real or synthetic), "class" and "quality".
    `instructions` and `consent` are texts that replace medzoo's own; empty lines separate paragraphs. The other
    arguments are those of `evaluate`. The same call finds its own study, and writes a missing page again.

    Example:
        >>> made = medzoo.new_study("split/test", "samples", out="study", per_class=25)
        >>> made.page, made.study.warnings

    Raises:
        ConfigError: a value out of range; an argument of the wrong type.
        DataError: sets that cannot be read, that share an image, or have too few of a class; `out` that holds others.
        ResourceError: the folder cannot be written to.
    """
    require((str, Path), "a path", real=real, fake=fake, out=out)
    require(str, "a text", title=title, instructions=instructions, consent=consent)
    require((int, float), "a number", repeats=repeats)
    folder = Path(out)
    request = StudyRequest(
        real=Path(real),
        fake=Path(fake),
        per_class=whole_number("per_class", per_class),
        tasks=(ORIGIN,) if pairs and tuple(tasks) == TASKS else names("tasks", tasks),
        pairs=pairs,
        repeats=repeats,
        seed=whole_number("seed", seed),
        size=size,
        crop=crop,
        title=title,
        classes=class_names(classes),
        skip_bad=skip_bad,
        masks=masks,
        reading=Reading.of(reading),
    )
    request.check()
    check_outside(folder, request.real, request.fake)
    earlier = _earlier(folder)
    made = design_study(request, secret=earlier.secret if earlier else "")
    page = _render(made.study, made.pixels, title=title, instructions=instructions, consent=consent)
    study = replace(made.study, page_sha256=hashlib.sha256(page).hexdigest())
    if earlier is not None and replace(earlier, page_sha256=study.page_sha256) != study:
        raise DataError(
            f"{folder} holds another study, whose page may be with readers already",
            "choose another --out, or repeat the first command to write its page again",
        )
    if earlier is not None and earlier != study:
        raise DataError(
            f"{folder} holds this study with a page of other texts, or of another version of medzoo",
            "choose another --out; the page there is left as it is",
        )
    path = folder / PAGE
    done = earlier is not None and path.is_file() and sha256_file(path) == study.page_sha256
    if not done:
        # The key comes first: a page without one is worth nothing.
        write_key(study, folder)
        write_atomic(path, page)
    for warning in study.warnings:
        logger.warning(warning)
    _log_power(study)
    return NewStudy(study=study, page=path, key=folder / KEY, already_done=done)


def _earlier(folder: Path) -> Study | None:
    """Return the study that a folder holds, None for a new folder. Raises: DataError if it holds other files."""
    if (folder / KEY).is_file():
        return read_study(folder)
    check_empty(folder)
    return None


def _log_power(study: Study) -> None:
    """Say what the study can show about chance, with five readers."""
    if ORIGIN not in study.tasks:
        return
    count = len(study.first_trials) // (1 if study.pairs else 2)
    [row] = study_power(margin=MARGIN, readers=[5], images=[count], pairs=study.pairs)
    logger.info(
        f"with 5 readers and {count} {'pairs' if study.pairs else 'images of each set'}, the power to show that "
        f"guessing readers are within {MARGIN:g} of chance is {row.equivalence[0]:.0%}; `medzoo study power` has more"
    )


def page_images(pixels: np.ndarray) -> list[str]:
    """Return images, uint8 (N, C, H, W), as PNGs in base64, all of one length, so that their sizes tell nothing.

    Shorter files get a chunk of zeros that decoders skip, before their end.
    """
    pngs = [encode_png(each) for each in pixels]
    # A chunk has 12 bytes around its content, so the longest file gets one too.
    longest = max(map(len, pngs)) + 12
    return [base64.b64encode(_padded(png, longest)).decode() for png in pngs]


def _padded(png: bytes, length: int) -> bytes:
    import zlib

    content = b"paDd" + bytes(length - len(png) - 12)
    chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    return png[:-12] + chunk + png[-12:]  # IEND has 12 bytes


def questions(study: Study) -> list[dict[str, Any]]:
    """Return the questions of each trial: name, text, and the answers by the key that gives them."""
    asked = {
        ORIGIN: ("Which image is synthetic?", SIDES) if study.pairs else ("Real or synthetic?", ORIGINS),
        CLASS: ("Which class?", study.classes),
        QUALITY: ("How good is the image?", QUALITIES),
    }
    return [{"name": name, "text": asked[name][0], "answers": list(asked[name][1])} for name in study.tasks]


def _render(study: Study, pixels: np.ndarray, *, title: str, instructions: str, consent: str) -> bytes:
    """Return the page. Of the study, it holds the id, the order of images, and what is asked: nothing of the key."""
    data = {
        "study": study.id,
        "side": study.side,
        "questions": questions(study),
        "images": page_images(pixels),
        "trials": [{"id": trial.id, "images": list(trial.images)} for trial in study.trials],
    }
    script, digest = page_script("study.js")
    values = {
        "title": title or TITLE,
        "instructions": paragraphs(instructions) or _instructions(study),
        "consent": paragraphs(consent) or _CONSENT,
        "study": study,
        "several": len(study.tasks) > 1,
        "script": script,
        "digest": digest,
        # "<" could end the element or begin a comment.
        "data": Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
        "version": __version__,
    }
    return render("study.html.j2", values)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, which empty lines separate."""
    return [" ".join(part.split()) for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]


def _instructions(study: Study) -> list[str]:
    count = len(study.trials)
    if study.pairs:
        shown = (
            f"You will see {count} pairs of images. In each pair, one image is real and the other synthetic, made by a "
            "computer. Say which one is synthetic, and how sure you are."
        )
    elif ORIGIN in study.tasks:
        others = ", then answer the other questions." if len(study.tasks) > 1 else "."
        shown = (
            f"You will see {count} images, one at a time. Half of them are real, and half synthetic, made by a "
            f"computer. Say which you take each image for, and how sure you are{others}"
        )
    else:
        shown = f"You will see {count} images, one at a time. Some are real, and some synthetic, made by a computer."
    return [
        shown,
        "Some come twice. Judge each one by itself, without looking anything up and without talking about it to "
        "others. Guess where you do not know: every question needs an answer, and you cannot go back to an image once "
        "you have gone on to the next.",
        "You may take a break, or close the page and open it again later on the same computer: it begins where you "
        "stopped.",
    ]


def read_text(path: Path | None, *, option: str) -> str:
    """Return the text of a file, "" for none. Raises: ConfigError if it cannot be read as UTF-8, or is empty."""
    if path is None:
        return ""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path} cannot be read: {error}", "give a text file in UTF-8") from None
    if not text.strip():
        raise ConfigError(f"{option} {path} is empty", f"write the text, or leave out {option}")
    return text
