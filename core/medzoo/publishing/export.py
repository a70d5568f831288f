"""Export generators for use without medzoo: a pipeline of diffusers, ONNX networks, or programs of torch.export."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch

from medzoo._version import __version__
from medzoo.data.marks import TRAINED, URI, xmp_packet
from medzoo.errors import ConfigError
from medzoo.generation.mixture import alone, split_strength
from medzoo.hub.entries import README, SAMPLES
from medzoo.hub.front_matter import GENERATION, parse_card
from medzoo.hub.registry import load_registry, resolve
from medzoo.hub.repositories import check_source
from medzoo.models.loading import LoadedModel, load_by_name
from medzoo.plugins.guard import exits_as_errors
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import Generator
from medzoo.runs.arguments import require
from medzoo.storage.files import check_empty, new_folder, write_json_atomic
from medzoo.toolkit.export import Export, ExportableGenerator, Network

FORMATS = ("diffusers", "onnx", "torch")
CARD = "MODEL_CARD.md"
DESCRIPTION = "sampling.json"
_SCRIPTS = files(__package__) / "exported"
_COMPONENT = "exported_network"
_ANY = 1 << 20  # rows; torch says infinity
_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_TITLES = {"diffusers": "a pipeline of diffusers", "onnx": "ONNX networks", "torch": "programs of torch.export"}
_LIBRARIES = {"diffusers": "diffusers", "onnx": "onnx", "torch": "pytorch"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """An exported model: its folder, and the files in it, relative to the folder."""

    folder: Path
    format: str
    files: tuple[str, ...]


@exits_as_errors()
def export(
    gen: str | Path,
    *,
    format: Literal["diffusers", "onnx", "torch"] = "diffusers",
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> ExportResult:
    """Export a generator for use without medzoo into the folder `out`, or ./GEN-FORMAT.

    "diffusers" is a pipeline that `DiffusionPipeline.from_pretrained` loads, "onnx" and "torch" are the networks with a
    description of how to sample, and a script that does. `settings` of sampling are exported in place of the model's
    own. The images are those of `medzoo.sample`, up to rounding. `gen` and `source` are those of `medzoo.load`.

    Example:
        >>> medzoo.export("ddpm-busi", format="onnx", out="ddpm-onnx").files
        ('MODEL_CARD.md', 'README.md', 'decoder.onnx', 'denoiser.onnx', 'sample.py', 'sampling.json', 'samples.png')

    Raises:
        ConfigError: a generator that cannot be exported, or a missing library; and as `medzoo.load`.
        DataError: `out` is not an empty folder.
        UnknownName, HubError, IntegrityError, PluginError, ResourceError: as `medzoo.load`; a full disk.
    """
    require((str, Path), "a model's name or a folder", gen=gen)
    if format not in FORMATS:
        raise ConfigError(f"--format cannot take '{format}'", f"it takes {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if format == "onnx":
        _check_onnx()
    model, license = _load(str(gen), settings=settings or {}, source=source)
    folder = Path(out) if out is not None else Path(f"{alone(model).names[0]}-{format}")
    check_empty(folder)
    assert isinstance(model.model, ExportableGenerator)  # checked by _load
    logger.info(f"exporting '{model.name}' as {_TITLES[format]}; tracing its networks may take a minute")
    found = model.model.export()
    with new_folder(folder) as new:
        if format == "diffusers":
            _write_pipeline(new, found, model)
        else:
            _write_networks(new, found, model, format=format)
        _write_texts(new, model, license=license, format=format)
        names = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    return ExportResult(folder=folder, format=format, files=tuple(names))


def _load(given: str, *, settings: Mapping[str, Any], source: str | None) -> tuple[LoadedModel[Generator], str]:
    """Return the model on the CPU and its license, "" if unknown. Raises: ConfigError if it cannot be exported."""
    name, strength = split_strength(given)
    check_source(name, source)
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    found = resolve(name, registry, plugins)
    if found.entry is None and found.folder is None:
        raise ConfigError(
            f"'{name}' has no weights to export", "`medzoo list` shows the generators that have; train one for its own"
        )
    model: LoadedModel[Generator] = load_by_name(
        name, registry=registry, plugins=plugins, device="cpu", overrides=settings, source=source
    )
    if model.needs_init_images or strength not in (None, 1.0):
        raise ConfigError(
            f"'{given}' varies real images, and exported models sample from noise",
            "leave out @STRENGTH and sampling.strength",
        )
    if not isinstance(model.model, ExportableGenerator):
        raise ConfigError(
            f"'{name}' cannot be exported: the plugin of '{model.spec.name}' does not say how",
            "it needs a method `export`, see docs/plugins.md#export",
        )
    license = found.entry.license if found.entry is not None else ""
    if not license and model.folder is not None and (model.folder / README).is_file():
        try:
            license = str(parse_card((model.folder / README).read_text("utf-8")).data.get("license") or "")
        except ValueError:
            logger.warning(f"{model.folder / README} states no license that can be read: the export states none either")
    return model, license


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401 - torch needs both
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError("writing ONNX needs onnx and onnxscript", "pip install 'medzoo[onnx]'") from None


def _describe(model: LoadedModel[Generator]) -> dict[str, Any]:
    """Return what pipelines and descriptions say of the model; its `name` is part of the seeds of its images."""
    return {
        "name": alone(model).names[0],
        "generator": model.spec.name,
        "weights_sha256": model.weights_sha256,
        "medzoo": __version__,
        "digital_source_type": URI + TRAINED,
    }


def _write_networks(folder: Path, found: Export, model: LoadedModel[Generator], *, format: str) -> None:
    """Write each network, sampling.json, which describes them, and the script that samples with them."""
    networks = {}
    for name, network in found.networks.items():
        file = name + _SUFFIXES[format]
        program = _program(network)
        facts: dict[str, Any] = {
            "file": file,
            "inputs": {given: _shape(example) for given, example in network.inputs.items()},
            "output": network.output,
        }
        if format == "onnx":
            _write_onnx(program, network, folder / file)
        else:
            torch.export.save(program, folder / file)
            if (largest := _largest_batch(program)) is not None:
                facts["max_batch"] = largest
        networks[name] = facts
    description = {
        **_describe(model),
        "xmp": xmp_packet(TRAINED),
        "image": {**model.image.to_dict(), "range": [0.0, 1.0]},
        "networks": networks,
        "noise_shape": list(found.noise_shape),
        **found.sampling,
    }
    write_json_atomic(folder / DESCRIPTION, description)
    _copy_script("sample.py", folder)


def _write_pipeline(folder: Path, found: Export, model: LoadedModel[Generator]) -> None:
    """Write the components, each in its folder, model_index.json, which lists them, and the code of the pipeline."""
    import diffusers

    index: dict[str, Any] = {
        "_class_name": ["pipeline", "ClassConditionalPipeline"],
        "_diffusers_version": diffusers.__version__,
    }
    for name, component in (found.components or found.networks).items():
        if isinstance(component, Network):
            (folder / name).mkdir()
            torch.export.save(_program(component), folder / name / "network.pt2")
            _copy_script(f"{_COMPONENT}.py", folder / name)
            index[name] = [_COMPONENT, "ExportedNetwork"]
        else:
            component.save_pretrained(folder / name)
            index[name] = ["diffusers", type(component).__name__]
    sampling = {key: value for key, value in found.sampling.items() if key not in ("steps", "alphas_cumprod")}
    image = model.image
    index["settings"] = {
        **_describe(model),
        "classes": list(image.classes),
        "multi_label": image.multi_label,
        "channels": image.channels,
        "noise_shape": list(found.noise_shape),
        **sampling,
        **found.pipeline,
    }
    write_json_atomic(folder / "model_index.json", index)
    _copy_script("pipeline.py", folder)


def _program(network: Network) -> torch.export.ExportedProgram:
    """Return a network as a program that takes any number of rows."""
    batch = {0: torch.export.Dim.AUTO}
    with _quiet():
        program = torch.export.export(
            network.module, tuple(network.inputs.values()), dynamic_shapes=tuple(dict(batch) for _ in network.inputs)
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _largest_batch(program: torch.export.ExportedProgram) -> int | None:
    """Return the most rows a program takes; None for any number. diffusers' U-Nets branch at 64."""
    bounds = [limits.upper for limits in program.range_constraints.values()]
    return min((int(bound) for bound in bounds if bound < _ANY), default=None)


def _write_onnx(program: torch.export.ExportedProgram, network: Network, path: Path) -> None:
    with _quiet():
        written = torch.onnx.export(
            program,
            tuple(network.inputs.values()),
            input_names=list(network.inputs),
            output_names=[network.output],
            dynamo=True,
            verbose=False,
        )
    assert written is not None  # it is with dynamo=True
    for node in written.model.graph:
        node.metadata_props.clear()  # as above
    written.save(path)


def _shape(example: torch.Tensor) -> dict[str, Any]:
    dtype = str(example.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": ["batch", *example.shape[1:]]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch and onnxscript say of their own workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)


def _copy_script(name: str, folder: Path) -> None:
    (folder / name).write_bytes((_SCRIPTS / name).read_bytes())


def _write_texts(folder: Path, model: LoadedModel[Generator], *, license: str, format: str) -> None:
    """Write README.md, and copy the model's card with its sample sheet and its license's text, where there are any."""
    from huggingface_hub import ModelCardData

    assert model.folder is not None  # it was loaded from one
    names = {README: CARD, SAMPLES: SAMPLES}
    names |= {path.name: path.name for path in model.folder.glob("LICENSE*")}
    for given, copied in names.items():
        if (model.folder / given).is_file():
            shutil.copyfile(model.folder / given, folder / copied)
    front = ModelCardData(
        license=license or None,
        library_name=_LIBRARIES[format],
        pipeline_tag=GENERATION.name,
        tags=[*GENERATION.tags, model.spec.name, "medzoo"],
    ).to_yaml()
    card = f"[{CARD}]({CARD}) says" if (folder / CARD).is_file() else "The model's card, if it has one, says"
    text = _README.format(
        front=front,
        name=model.name,
        title=_TITLES[format],
        version=__version__,
        weights=model.weights_sha256,
        card=card,
        license=f"License: {license}." if license else "**The license of the model is not known.**",
        use=_USES[format].format(
            label=model.image.classes[0], name=model.name, folder="FOLDER", torch=torch.__version__.partition("+")[0]
        ),
        uri=URI + TRAINED,
    )
    (folder / README).write_text(text, "utf-8")


_README = """---
{front}
---

# {name} as {title}

Exported by medzoo {version} from `{name}`, weights {weights}. {card} what the model was trained on and what it must not
be used for. {license}

**Images made by this model are synthetic. They are for research on data augmentation and not for diagnosis.**

{use}

The images are those of `medzoo sample` in 32-bit floating point, up to rounding; where medzoo samples in bf16 because
the hardware has it, they differ a little more.

## Mark the images as synthetic

A file should say what it holds: write IPTC's digital source type, `{uri}`, as
`Iptc4xmpExt:DigitalSourceType` into its XMP. The European Union's AI Act (Art. 50(2)) asks for such a mark.
"""

_SCRIPT_USE = """## Sample

```
python sample.py {label} --n 4 --seed 0 --out images
```

writes the images of `medzoo sample {name} --label {label} --n 4 --seed 0`, with the mark below. `sample.py` needs
numpy, Pillow and {needs}; its function `sample` is the whole loop. `sampling.json` describes the inputs of the
networks, the noise schedule, and each step as numbers."""

_USES: Mapping[str, str] = {
    "diffusers": """## Sample

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{folder}", trust_remote_code=True)
images = pipeline("{label}", num_images=4, seed=0).images
```

gives the images of `medzoo sample {name} --label {label} --n 4 --seed 0`. `trust_remote_code=True` is there because the
folder holds the code of the pipeline, `pipeline.py`: read it first. `generator=` takes generators of torch in place
of a seed. Nothing but diffusers and torch is needed. Pillow writes the mark below with `pnginfo`.""",
    "onnx": _SCRIPT_USE.replace("{needs}", "onnxruntime"),
    "torch": _SCRIPT_USE.replace("{needs}", "torch {torch} or a version that reads its programs"),
}
