"""`medzoo data`: simulated images, splits and checks."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import Masks, SkipBad, takes_reading
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medzoo.data.checks import DataReport
    from medzoo.data.summary import LeftOut

logger = logging.getLogger(__name__)


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate, split and check labeled images.")

Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
_SHOWN = 10


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, filled with class folders.")],
    *,
    per_class: Annotated[int, typer.Option(help="Images of each class.")] = 100,
    counts: Annotated[str, typer.Option(help="Images by class instead, as normal=400,thick-wall=40.")] = "",
    size: Annotated[int, typer.Option(help="Side of the images, in pixels.")] = 128,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write simulated ultrasound images of four classes."""
    import medzoo
    from medzoo.data.phantom import CLASSES

    wanted = _parse_counts(counts) if counts else dict.fromkeys(CLASSES, per_class)
    logger.info(f"writing {sum(wanted.values())} images to {folder}")
    medzoo.write_phantom(folder, counts=wanted, size=size, seed=seed)
    if json:
        print_json({"folder": str(folder), "counts": wanted, "size": size, "seed": seed})
    else:
        print_table(("class", "images"), wanted.items(), right=("images",))


def _parse_counts(text: str) -> dict[str, int]:
    """Return counts by class from "name=number,name=number"."""
    counts = {}
    for entry in text.split(","):
        name, _, number = entry.strip().partition("=")
        if not number.isdecimal() or name in counts:
            raise ConfigError(f"--counts cannot take '{entry.strip()}'", "write it as normal=400,thick-wall=40")
        counts[name] = int(number)
    return counts


@app.command()
@takes_reading
def split(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Class folders, a CSV or an npz.")],
    *,
    out: Annotated[Path, typer.Option(help="A new folder for the parts and split.csv.")],
    train: Annotated[float, typer.Option(help="Share of the training part.")] = 0.8,
    val: Annotated[float, typer.Option(help="Share of the validation part; 0 leaves it out.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the test part; 0 leaves it out.")] = 0.1,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    json: Json = False,
) -> None:
    """Split images by patient where known, else by duplicate group, in equal shares of each class."""
    import medzoo

    made = medzoo.split_data(
        data, out, train=train, val=val, test=test, seed=seed, skip_bad=skip_bad, masks=masks, reading=reading
    )
    if json:
        print_json({**made.to_dict(), "seed": seed})
    else:
        _print_counts(made.counts)


@app.command()
@takes_reading
def check(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Class folders, a CSV or an npz.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, with images of each class.")] = None,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if anything is wrong.")] = False,
    json: Json = False,
) -> None:
    """Report what images were taken for, what was left out, unreadable files and duplicates."""
    import medzoo

    report = medzoo.check_data(data, out=out, masks=masks, reading=reading)
    written = None
    if out is not None:
        from medzoo.report.data.report import REPORT

        written = out / REPORT
    if written is None and not json:
        logger.info("--out DIR writes a report with images of each class")
    if json:
        print_json({**report.to_dict(), "report": written})
    else:
        _print_report(report)
        if written is not None:
            print_text(str(written))
    if strict and report.problems:
        raise DataError(f"{data} has problems: {'; '.join(report.problems)}")


def _left_out(one: "LeftOut") -> str:
    return f"{one.count} {one.what}" + (f", such as {', '.join(one.examples)}" if one.examples else "")


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    """Print a table of images by class and part."""
    names = list(next(iter(counts.values())))
    rows = [[name, *(of_part[name] for of_part in counts.values())] for name in names]
    print_table(("class", *counts), rows, right=tuple(counts))


def _print_report(report: "DataReport") -> None:
    """Print the report, long lists cut short, its problems last."""
    print_text(report.summary.line(), "")
    _print_counts({part: dict(of_part) for part, of_part in report.counts.items()})
    if report.label_sets:
        print_text("")
        print_table(("labels per image", "images"), report.labels_per_image.items(), right=("images",))
        print_text("", f"sets of labels: {len(report.label_sets)}")
        print_table(("labels", "images"), list(report.label_sets.items())[:_SHOWN], right=("images",))
        if len(report.label_sets) > _SHOWN:
            print_text(f"and {len(report.label_sets) - _SHOWN} more (--json lists all)")
    print_text("")
    print_table(("size", "images"), list(report.sizes.items())[:_SHOWN], right=("images",))
    print_text("")
    print_table(("kind", "images"), report.kinds.items(), right=("images",))
    for title, rows in (
        ("unreadable images", [f"{name}: {reason}" for name, reason in report.unreadable]),
        ("left out", [_left_out(one) for one in report.summary.findings.left_out]),
        ("images without content", list(report.blank)),
        ("synthetic images", list(report.synthetic)),
        ("duplicate groups", [", ".join(group) for group in report.groups]),
    ):
        if rows:
            print_text("", f"{title}: {len(rows)}")
            for row in rows[:_SHOWN]:
                print_text(f"  {row}")
            if len(rows) > _SHOWN:
                print_text(f"  and {len(rows) - _SHOWN} more (--json lists all)")
    print_text("", "problems: " + ("; ".join(report.problems) or "none"))
