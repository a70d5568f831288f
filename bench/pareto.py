"""The curve of speed against quality of a model: steps, algorithm, guidance interval and spacing, each beside its card.

Every setting draws the same number of images, with the real images' shares of classes. Its distance (kid), precision
and recall are means over draws of half of the real images and as many synthetic ones; the floor is that of one half of
the real images and the other. Network evaluations per image do not depend on the machine or its load.

A point is finished once its line is in OUT/points.jsonl, and the same command goes on from there. OUT/pareto.md and
OUT/pareto.png are written anew after each point.
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import medzoo
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import ConfigError, DataError, HubError, MedzooError, UnknownName
from medzoo.evaluation.features import PRETRAINED, DatasetExtractor, check_available, domain_classifier, load_extractor
from medzoo.generation.mixture import Source, alone, load_from, make_source
from medzoo.models.devices import pick_device
from medzoo.models.loading import LoadedModel
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import Generator, Sample
from medzoo.seeds import derive_seed
from medzoo.storage.files import make_folder, write_atomic

CARD = "card"
QUALITIES = ("kid", "precision", "recall")
SETTINGS = ("num_inference_steps", "scheduler", "guidance_scale", "guidance_interval", "timestep_spacing")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is held fixed: the model by name, the real images and their features, and how points are measured."""

    name: str
    source: Source
    real: Dataset
    counts: Mapping[str, int]
    extractors: Sequence[DatasetExtractor]
    real_features: Mapping[str, np.ndarray]
    draws: int
    seed: int
    batch_size: int

    @property
    def n(self) -> int:
        """The images per set of every draw."""
        return min(len(self.real) // 2, sum(self.counts.values()))

    def load(self, settings: Mapping[str, Any]) -> LoadedModel[Generator]:
        """Load the model with these settings of sampling."""
        overrides = {f"sampling.{name}": value for name, value in settings.items()}
        return load_from(self.name, replace(self.source, overrides=overrides))

    def identity(self, settings: Mapping[str, Any]) -> str:
        """Return a hash of all that a point depends on but the machine."""
        model = self.load(settings)
        facts = [model.weights_sha256, model.config.plain(), self.counts, self.draws, self.seed, self.batch_size]
        facts += [self.real.fingerprints(), [each.identity for each in self.extractors], medzoo.__version__]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def measure(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Draw images with these settings, and return the point: what they cost and how good they are."""
        model = self.load(settings)
        evaluations = evaluations_per_image(model)
        sampler = alone(model).sampler(self.counts, real=None, batch_size=self.batch_size, seed=self.seed)
        wall, processor = time.perf_counter(), time.process_time()
        pixels = sampler.sample_all()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        made = Dataset(
            path=Path(self.name),
            classes=tuple(self.counts),
            labels=np.repeat(np.arange(len(self.counts)), list(self.counts.values())),
            names=tuple(image.file for image in sampler.plan.images()),
            array=pixels[:, 0] if model.image.channels == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)),
        )
        features = {one.name: one.extract(made, model.image, crop="none", mirrored=False)[0] for one in self.extractors}
        return {
            "settings": {name: model.config.plain().get(f"sampling.{name}") for name in SETTINGS},
            "evaluations": evaluations,
            "images": len(pixels),
            "images_per_second": len(pixels) / wall,
            "processor_seconds_per_image": processor / len(pixels),
            "threads": torch.get_num_threads(),
            "device": self.source.device,
            "quality": {name: self.quality(name, features[name], of_real=False) for name in features},
        }

    def quality(self, extractor: str, features: np.ndarray, *, of_real: bool) -> dict[str, list[float]]:
        """Return kid, precision and recall in these features, each as mean and standard deviation over the draws.

        With `of_real`, of the other half of the real images: the floor.
        """
        metrics = {name: self.source.plugins.metric(name).build() for name in ("kid", "prc")}
        found: dict[str, list[float]] = {name: [] for name in QUALITIES}
        real = self.real_features[extractor]
        for draw in range(self.draws):
            random = np.random.default_rng(derive_seed(self.seed, "halves", draw))
            order = random.permutation(len(real))
            half = _sample(real[order[: self.n]])
            others = order[self.n : 2 * self.n] if of_real else random.permutation(len(features))[: self.n]
            against, seed = _sample(features[others]), derive_seed(self.seed, draw)
            found["kid"].append(metrics["kid"](half, against, seed=seed).value)
            details = metrics["prc"](half, against, seed=seed).details
            for name in ("precision", "recall"):
                found[name].append(details[name])
        return {name: [float(np.mean(values)), float(np.std(values))] for name, values in found.items()}


def _sample(features: np.ndarray) -> Sample:
    return Sample(size=len(features), features={"features": torch.from_numpy(features)})


def evaluations_per_image(model: LoadedModel[Generator]) -> int | None:
    """Count the rows that the denoising network is given for one image, in a draw that also warms it up."""
    labels = torch.zeros(1, dtype=torch.long)
    model.model.sample([0], labels)
    copies = getattr(model.model, "_fast", [])
    if not copies:
        return None
    rows = 0

    def count(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal rows
        rows += len(given[0])

    hook = copies[0].register_forward_pre_hook(count)
    model.model.sample([0], labels)
    hook.remove()
    return rows


def class_counts(real: Dataset, model: LoadedModel[Generator], n: int) -> dict[str, int]:
    """Share `n` images among the model's classes as the real images are, by largest remainder."""
    own = real.counts()
    if lacking := [name for name, count in own.items() if count and name not in model.image.classes]:
        raise DataError(f"'{model.name}' has no class {', '.join(lacking)}", "give images of its classes only")
    shares = {name: n * own.get(name, 0) / len(real) for name in model.image.classes}
    counts = {name: int(share) for name, share in shares.items()}
    for name in sorted(shares, key=lambda name: counts[name] - shares[name])[: n - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def prepare(asked: argparse.Namespace) -> Bench:
    """Load the model of the card and the real images, which it must not have been trained on."""
    source = make_source(load_plugins(), device=pick_device(asked.device))
    model = load_from(asked.model, source)
    if model.needs_init_images or model.image.multi_label:
        raise ConfigError(f"'{asked.model}' varies images or has several labels", "give a model that draws from noise")
    real = open_dataset(asked.real)
    check_no_synthetic(real, use="but is to be compared with", hint="give a folder of real images only")
    if seen := len(set(real.fingerprints()) & model.trained_on):
        raise DataError(f"{seen} of the {len(real)} real images were used in training", "give held-out images")
    if len(real) < 8:
        raise DataError(f"{asked.real} has {len(real)} images, 8 are needed", "give more held-out images")
    names = asked.extractors
    if not names:
        found = domain_classifier(source.registry, model.image.classes)
        names = [name for name in (PRETRAINED, found.id if found else "") if name and _at_hand(name, source)]
    extractors = [DatasetExtractor(load_extractor(name, source), batch_size=asked.batch) for name in names]
    if not extractors:
        raise HubError("no extractor of features is on this machine", "--extractors NAME ..., as in pixels")
    return Bench(
        name=asked.model,
        source=source,
        real=real,
        counts=class_counts(real, model, asked.n),
        extractors=extractors,
        real_features={
            one.name: one.extract(real, model.image, crop=model.crop, mirrored=False)[0] for one in extractors
        },
        draws=asked.draws,
        seed=asked.seed,
        batch_size=asked.batch,
    )


def _at_hand(name: str, source: Source) -> bool:
    try:
        check_available(name, source)
    except (HubError, UnknownName):
        return False
    return True


def grid(asked: argparse.Namespace, card: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and settings of each point: the card, then all combinations; what is not given is as in the card."""
    yield CARD, {}
    lists = {
        "num_inference_steps": asked.steps,
        "scheduler": asked.samplers,
        "guidance_scale": asked.scales,
        "guidance_interval": [parse_interval(text) for text in asked.intervals or ()],
        "timestep_spacing": asked.schedules,
    }
    known = {name: card[f"sampling.{name}"] for name in SETTINGS if f"sampling.{name}" in card}
    if missing := [name for name, values in lists.items() if values and name not in known]:
        raise ConfigError(f"the model has no setting {', '.join(f'sampling.{name}' for name in missing)}")
    for values in itertools.product(*(lists[name] or [value] for name, value in known.items())):
        settings = dict(zip(known, values, strict=True))
        if settings != known:
            yield describe(settings), settings


def describe(settings: Mapping[str, Any]) -> str:
    """Name a point: "12 sde-dpm-solver++ karras 2.5 0.3-5"."""
    low_high = "-".join(f"{level:g}" for level in settings.get("guidance_interval") or ())
    names = ("num_inference_steps", "scheduler", "timestep_spacing", "guidance_scale")
    return " ".join(f"{part}" for part in (*map(settings.get, names), low_high) if part)


def parse_interval(text: str) -> list[float]:
    """Read "LOW:HIGH" or "none". Raises: ConfigError."""
    try:
        return [] if text == "none" else [float(part) for part in text.split(":")]
    except ValueError:
        raise ConfigError(f"--intervals cannot take '{text}'", "write none or LOW:HIGH, as in 0.3:5") from None


def read_points(path: Path) -> dict[str, dict[str, Any]]:
    """Return the finished points by identity; a line that was cut off is left out."""
    points = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            point = json.loads(line)
            points[point["identity"]] = point
        except (ValueError, KeyError, TypeError):
            print(f"{path} has a line that was cut off; measuring that point again", file=sys.stderr)
    return points


def append_point(path: Path, point: Mapping[str, Any]) -> None:
    """Add a line and wait for the disk; one that was cut off before ends there."""
    cut = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write("\n" * cut + json.dumps(point) + "\n")
        file.flush()
        os.fsync(file.fileno())


def not_worse(point: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    """Whether kid, precision and recall are in every feature space as good as the card's, up to the card's spread."""
    for name, theirs in card["quality"].items():
        for quality in QUALITIES:
            (own, _), (value, spread) = point["quality"][name][quality], theirs[quality]
            worse = own - value if quality == "kid" else value - own
            if worse > spread:
                return False
    return True


def front(points: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the points that no other beats in cost and in kid of every feature space."""

    def facts(point: Mapping[str, Any]) -> tuple[float, ...]:
        return (cost(point), *(quality["kid"][0] for quality in point["quality"].values()))

    def beaten(own: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return other != own and all(theirs <= mine for mine, theirs in zip(own, other, strict=True))

    return {
        name
        for name, point in points.items()
        if not any(beaten(facts(point), facts(other)) for other in points.values())
    }


def cost(point: Mapping[str, Any]) -> float:
    """Return the network evaluations per image, or processor time where they cannot be counted."""
    return float(point["evaluations"] or point["processor_seconds_per_image"])


def table(bench: Bench, points: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Any]) -> str:
    """Return the results as a Markdown table, cheapest first."""
    spaces = [each.name for each in bench.extractors]
    heads = ["setting", "evaluations", "processor s/image", "images/s", "speed-up"]
    heads += [f"{quality}@{space}" for space in spaces for quality in QUALITIES] + ["front", "not worse"]
    best, card = front(points), points[CARD]

    def qualities(found: Mapping[str, Any]) -> list[str]:
        return [f"{mean:.3f} ± {spread:.3f}" for space in spaces for mean, spread in map(found[space].get, QUALITIES)]

    rows = []
    for name, point in sorted(points.items(), key=lambda item: cost(item[1])):
        label = f"**{describe(point['settings'])}** (card)" if name == CARD else name
        seconds = point["processor_seconds_per_image"]
        facts = [point["evaluations"] or "", f"{seconds:.3f}", f"{point['images_per_second']:.2f}"]
        rows.append(
            [label, *facts, f"{card['processor_seconds_per_image'] / seconds:.2f}", *qualities(point["quality"])]
        )
        rows[-1] += ["yes" if name in best else "", "yes" if not_worse(point, card) else ""]
    rows.append(["floor: real to real", "", "", "", "", *qualities(floor), "", ""])
    lines = [heads, ["---"] * len(heads), *rows]
    text = "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
    threads = sorted({point["threads"] for point in points.values()})
    return (
        f"`{bench.name}`: {sum(bench.counts.values())} images per setting, means ± standard deviations over "
        f"{bench.draws} draws of {bench.n} real and {bench.n} synthetic images; {', '.join(map(str, threads))} threads "
        f"on {bench.source.device}. Processor time is user and system time of the process, which other load changes "
        'little; images/s are by the clock. "Not worse": kid, precision and recall are at most the spread of the card '
        f"worse than the card's, in every feature space.\n\n{text}\n"
    )


def draw_figure(bench: Bench, points: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Any], path: Path) -> None:
    """Draw kid over cost, a panel per feature space, with the floor, the front and the card's point."""
    spaces = [each.name for each in bench.extractors]
    figure = Figure(figsize=(5.5 * len(spaces), 4.2), layout="constrained")
    best = sorted(front(points), key=lambda name: cost(points[name]))
    for place, space in enumerate(spaces, 1):
        axes = figure.add_subplot(1, len(spaces), place)
        for name, point in points.items():
            mean, spread = point["quality"][space]["kid"]
            color = "#b3261e" if name == CARD else "#1f5fa8" if name in best else "#9aa0a6"
            axes.errorbar(cost(point), mean, yerr=spread, fmt="o", color=color, capsize=2, markersize=5)
            if name == CARD or name in best:
                axes.annotate("card" if name == CARD else name, (cost(point), mean), fontsize=6, rotation=25)
        line = [(cost(points[name]), points[name]["quality"][space]["kid"][0]) for name in best]
        axes.plot(*zip(*line, strict=True), color="#1f5fa8", linewidth=1)
        mean, spread = floor[space]["kid"]
        axes.axhspan(mean - spread, mean + spread, color="#e8eaed")
        axes.axhline(mean, color="#5f6368", linestyle="--", linewidth=1, label="real to real")
        axes.set(xlabel="network evaluations per image", ylabel=f"kid@{space}", title=bench.name)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("model", help="id of a model, or the folder of a run")
    found.add_argument("--real", type=Path, required=True, help="held-out real images")
    found.add_argument("--out", type=Path, help="folder of the results  [default: pareto-MODEL]")
    found.add_argument("--n", type=int, default=288, help="images per setting, of all classes together")
    found.add_argument("--steps", type=int, nargs="+", help="denoising steps")
    found.add_argument("--samplers", nargs="+", help="values of sampling.scheduler")
    found.add_argument("--intervals", nargs="+", metavar="LOW:HIGH", help="guidance intervals; none is all levels")
    found.add_argument("--scales", type=float, nargs="+", help="guidance scales")
    found.add_argument("--schedules", nargs="+", help="values of sampling.timestep_spacing")
    found.add_argument("--extractors", nargs="+", help=f"  [default: {PRETRAINED} and the domain's classifier]")
    found.add_argument("--draws", type=int, default=8, help="draws of halves that means and spreads are of")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--batch", type=int, default=32)
    found.add_argument("--device", default="auto")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, and return the exit code."""
    asked = parser().parse_args(arguments)
    try:
        run(asked)
    except MedzooError as error:
        print(f"error: {error.message}" + f"\n  {error.hint}" * bool(error.hint), file=sys.stderr)
        return error.exit_code
    return 0


def run(asked: argparse.Namespace) -> None:
    """Measure every point that the folder lacks, and write table and figure."""
    bench = prepare(asked)
    out = make_folder(asked.out or Path(f"pareto-{Path(asked.model).name}"))
    floor = {name: bench.quality(name, rows, of_real=True) for name, rows in bench.real_features.items()}
    wanted = [(name, values, bench.identity(values)) for name, values in grid(asked, bench.load({}).config.plain())]
    finished = read_points(out / "points.jsonl")
    points: dict[str, dict[str, Any]] = {}
    for place, (name, values, identity) in enumerate(wanted, 1):
        known = identity in finished
        if not known:
            finished[identity] = {"identity": identity, "name": name, **bench.measure(values)}
            append_point(out / "points.jsonl", finished[identity])
        points[name] = finished[identity]
        state = "known" if known else f"{points[name]['processor_seconds_per_image']:.3f} s of processor time per image"
        print(f"{place} of {len(wanted)}: {name}: {points[name]['evaluations']} evaluations, {state}", flush=True)
        if place == len(wanted) or not known:
            write_atomic(out / "pareto.md", table(bench, points, floor).encode())
            draw_figure(bench, points, floor, out / "pareto.png")
    print((out / "pareto.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
