"""Options that several commands share: each is declared, and its text parsed, once."""

import functools
import inspect
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from medzoo.errors import ConfigError

Data = Annotated[Path, typer.Option(help="Real images: a folder of class folders, a CSV or an npz.")]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed gives the same images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images to generate at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set sampling.num_inference_steps=50."),
]
Preset = Annotated[str, typer.Option(help="Preset of the plugin; `medzoo show PLUGIN` lists them.")]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML file of settings, applied over the preset.")]
RunFolder = Annotated[Path, typer.Option(help="Folder of the run; the same command resumes it.")]
Classes = Annotated[str, typer.Option(help="Class names for the numbers in an npz: normal,pneumonia.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip unreadable images and list them.")]
Masks = Annotated[
    str,
    typer.Option(
        metavar="ignore|refuse|as-images", help="Masks among the images: leave out, refuse, or use as images."
    ),
]
_READING: dict[str, Any] = {
    "window": Annotated[
        str,
        typer.Option(
            metavar="CENTER,WIDTH|NAME",
            help="Gray window of DICOM and NIfTI images: values, file, percentile, or of CT lung, bone, brain, ...",
        ),
    ],
    "frames": Annotated[
        str, typer.Option(metavar="first|middle|all|every:N", help="Frames of DICOM files.  [default: middle]")
    ],
    "plane": Annotated[
        str, typer.Option(metavar="axial|coronal|sagittal", help="Plane of NIfTI slices.  [default: axial]")
    ],
    "slices": Annotated[
        str, typer.Option(metavar="middle|all|every:N|nonempty", help="Slices of NIfTI volumes.  [default: middle]")
    ],
    "label_tag": Annotated[
        str, typer.Option(metavar="KEYWORD|GGGG,EEEE", help="DICOM attribute that holds the label, not folders.")
    ],
}
ConvertColor = Annotated[
    bool, typer.Option("--convert-color", help="Read images in color as gray, for a model trained in gray.")
]
Format = Annotated[
    str, typer.Option(metavar="png|dicom", help="Format of synthetic images; dicom needs 'medzoo[dicom]'.")
]
C2pa = Annotated[
    str,
    typer.Option(
        "--c2pa", metavar="CERT,KEY", help="Sign synthetic PNGs by C2PA: PEM files of a certificate chain and its key."
    ),
]
LogWith = Annotated[
    list[str] | None,
    typer.Option("--log-with", metavar="tensorboard|wandb|mlflow", help="Also log to this tracker; may be repeated."),
]
AllowUpload = Annotated[
    bool,
    typer.Option("--allow-upload", help="Allow real images to be sent to a service, for generators that use one."),
]
AllowLeak = Annotated[bool, typer.Option("--allow-leak", help="Allow evaluation images used in training (recorded).")]
LeaveOutSeen = Annotated[bool, typer.Option("--leave-out-seen", help="Leave out images used in training.")]
Source = Annotated[
    str | None, typer.Option("--from", metavar="bundled|hub|DIR", help="Load models from this source only.")
]
Ray = Annotated[
    str | None,
    typer.Option(metavar="local|auto|ray://HOST:PORT", help="Work on a Ray cluster; needs 'medzoo[ray]'."),
]
GpusPerTask = Annotated[
    float | None,
    typer.Option(metavar="N", help="GPUs of a task on the cluster, or a fraction of one.  [default: 0]"),
]
SharedOut = Annotated[
    bool, typer.Option("--shared-out", help="Let the cluster's nodes write to --out, which all of them see.")
]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="policy.toml of `medzoo tune`: use images as it says.")
]


def takes_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of DICOM and NIfTI files to a command, which gets those that are given as `reading`."""

    @functools.wraps(command)
    def with_options(*args: Any, **given: Any) -> None:
        reading = {name: value for name in _READING if (value := given.pop(name))}
        command(*args, **given, reading=reading or None)

    stated = inspect.signature(command, eval_str=True)
    found: list[inspect.Parameter] = []
    for name, one in stated.parameters.items():
        options = [inspect.Parameter(key, one.kind, default="", annotation=kind) for key, kind in _READING.items()]
        found += options if name == "reading" else [one]
    with_options.__signature__ = stated.replace(parameters=found)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in found}
    return with_options


def parse_overrides(texts: Iterable[str] | None) -> dict[str, Any]:
    """Return the dotted keys and values of `--set key=value`: a value is TOML, or else a bare word, which is text.

    Raises:
        ConfigError: a text without a key and "=".
    """
    values: dict[str, Any] = {}
    for text in texts or ():
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key:
            raise ConfigError(f"--set cannot take '{text}'", "write --set key=value, as in --set image.size=64")
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            values[key] = value  # quoting a word for the shell and for TOML would be one quote too many
    return values


def parse_signing(text: str) -> tuple[str, str] | None:
    """Return the paths in "CERT,KEY"; None for an empty text. Raises: ConfigError."""
    if not text:
        return None
    certificate, comma, key = text.partition(",")
    if not (certificate and comma and key) or "," in key:
        raise ConfigError(f"--c2pa cannot take '{text}'", "write --c2pa chain.pem,key.pem")
    return certificate, key


def complete_models(incomplete: str) -> list[str]:
    """Return the ids of models and assets of the registry that begin so, for a shell's completion."""
    return _beginning(incomplete)


def complete_generators(incomplete: str) -> list[str]:
    """Return the ids of generators, and the plugins they are of, that begin so."""
    return _beginning(incomplete, kind="generator")


GeneratorName = Annotated[
    str,
    typer.Argument(
        metavar="GEN",
        help="Generator: id, plugin, run folder or hf:org/name.",
        autocompletion=complete_generators,
    ),
]


def _beginning(incomplete: str, *, kind: str = "") -> list[str]:
    from medzoo.hub.registry import load_registry

    registry = load_registry()
    entries = [entry for entry in registry.models.values() if kind in ("", entry.kind)]
    names = [entry.name for entry in entries]
    names += [entry.plugin for entry in entries] if kind else [asset.id for asset in registry.assets]
    return sorted({name for name in names if name.startswith(incomplete)})


def names_in(text: str) -> list[str] | None:
    """Return the names in "a, b, c"; None for an empty text."""
    return [name.strip() for name in text.split(",")] if text else None
