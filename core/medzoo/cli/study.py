"""`medzoo study`: blinded reading studies of real and synthetic images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Classes, Masks, SkipBad, names_in, takes_reading
from medzoo.cli.output import Json, print_json, print_table, print_text

logger = logging.getLogger(__name__)


app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Have people judge real and synthetic images, blinded."
)


@app.command()
@takes_reading
def new(
    *,
    real: Annotated[Path, typer.Option(help="Real images: class folders, images, CSV or npz.")],
    fake: Annotated[Path, typer.Option(help="Synthetic images of the same classes.")],
    out: Annotated[
        Path, typer.Option(help="Folder for study.html, which readers get, and key.json, which they do not.")
    ],
    per_class: Annotated[int, typer.Option(help="Images of each class from each set, or pairs.")] = 20,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="origin|class|quality", help="Question to ask; repeat for several.  [default: all]"),
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Show a real and a synthetic image side by side.")] = False,
    repeats: Annotated[float, typer.Option(help="Share of images shown twice.")] = 0.1,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to show images at.  [default: the smaller set's side]")
    ] = None,
    crop: Annotated[str, typer.Option(help="Crop of all images: none, center, dark-border or pad.")] = "none",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    instructions: Annotated[Path | None, typer.Option(help="Text file of instructions, instead of medzoo's.")] = None,
    consent: Annotated[Path | None, typer.Option(help="Text file that readers agree to, instead of medzoo's.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed; what it gives depends on the key too.")] = 0,
    classes: Classes = "",
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    as_json: Json = False,
) -> None:
    """Write a reading study: one HTML file for readers, and its key."""
    import medzoo
    from medzoo.report.study.page import read_text
    from medzoo.study.key import TASKS

    made = medzoo.new_study(
        real,
        fake,
        out=out,
        per_class=per_class,
        tasks=task or TASKS,
        pairs=pairs,
        repeats=repeats,
        seed=seed,
        size=size,
        crop=crop,
        title=title,
        instructions=read_text(instructions, option="--instructions"),
        consent=read_text(consent, option="--consent"),
        classes=names_in(classes),
        skip_bad=skip_bad,
        masks=masks,
        reading=reading,
    )
    if made.already_done:
        logger.info("this study was already written; nothing to do")
    logger.info(
        f"send {made.page} to readers, and nothing else of {out}: {made.key.name} says which images are synthetic"
    )
    if as_json:
        study = made.study
        print_json(
            {
                "study": study.id,
                "page": made.page,
                "key": made.key,
                "trials": len(study.trials),
                "tasks": study.tasks,
                "classes": study.classes,
                "side": study.side,
                "warnings": study.warnings,
            }
        )
        return
    print_text(str(made.page))


@app.command()
def score(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder that `medzoo study new --out` wrote.")],
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="Files that readers sent, or a folder of them.")
    ],
    *,
    margin: Annotated[
        float, typer.Option(help="What counts as equivalent: of the ROC area around 0.5, and of right classes.")
    ] = 0.1,
    quality_margin: Annotated[float, typer.Option(help="The same of the mean quality, 1 to 5.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Folder for the report and tables.  [default: STUDY/scores]")] = None,
    as_json: Json = False,
) -> None:
    """Score the answers of readers, with intervals, and write a report."""
    import medzoo
    from medzoo.report.study.report import REPORT
    from medzoo.report.study.text import LABELS, interval

    found = medzoo.score_study(study, answers, out=out, margin=margin, quality_margin=quality_margin)
    scores = found.scores
    if as_json:
        print_json({"verdict": found.verdict, **scores.to_dict(), "report": found.folder / REPORT})
        return
    columns = list(scores.pooled)
    rows = [(reader.code, reader.estimates) for reader in scores.readers]
    rows += [("all readers", scores.pooled)] if len(rows) > 1 else []
    table = [[LABELS[name], *(interval(estimates[name]) for _, estimates in rows)] for name in columns]
    print_table(("measure", *(code for code, _ in rows)), table)
    print_text("", *([found.verdict] if found.verdict else []), str(found.folder / REPORT))


@app.command()
def power(
    *,
    margin: Annotated[float, typer.Option(help="What counts as equivalent: of the ROC area around 0.5.")] = 0.1,
    readers: Annotated[list[int] | None, typer.Option(help="Number of readers; repeat for several.")] = None,
    images: Annotated[list[int] | None, typer.Option(help="Images of each set in all; repeat for several.")] = None,
    correlation: Annotated[float, typer.Option(help="Correlation of two readers' errors.")] = 0.4,
    reader_sd: Annotated[float, typer.Option(help="Standard deviation of readers' true ROC areas.")] = 0.03,
    pairs: Annotated[bool, typer.Option("--pairs", help="Images are pairs of a real and a synthetic one.")] = False,
    as_json: Json = False,
) -> None:
    """Tell how many images and readers a margin needs."""
    from dataclasses import asdict

    import medzoo
    from medzoo.study.power import IMAGES, READERS

    rows = medzoo.study_power(
        margin=margin,
        readers=readers or READERS,
        images=images or IMAGES,
        correlation=correlation,
        reader_sd=reader_sd,
        pairs=pairs,
    )
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    shown = rows[0].images
    what = "pairs" if pairs else "images of each set"
    for title, kind in (
        (f"power to show that guessing readers are within {margin:g} of chance, by {what}", "equivalence"),
        (f"power to show that readers who are {margin:g} above chance are above it", "detection"),
    ):
        print_text(title)
        table = [[row.readers, *(f"{value:.0%}" for value in getattr(row, kind))] for row in rows]
        if kind == "equivalence":
            table = [
                [*cells, "over 5000" if row.needed is None else row.needed]
                for cells, row in zip(table, rows, strict=True)
            ]
        columns = ["readers", *map(str, shown), *(["for 80%"] if kind == "equivalence" else [])]
        print_table(columns, table, right=columns)
        print_text("")
    print_text(
        f"Assumed: readers' true ROC areas spread by {reader_sd:g}, and their errors correlate by {correlation:g}.",
        "One reader stands for that reader alone; two say little about others.",
    )
