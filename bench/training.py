"""Which training settings make a small diffusion model better at equal processor time: `ddpm-var` on a split image set.

Each variant is trained on the `train` part for as many epochs as fit its share of the time, and its images are compared
with the `val` part; the `test` part is not read. One training each: differences within a spread are no differences. The
same command resumes.
"""

import argparse
import json
import resource
import shutil
from pathlib import Path

import medzoo

EDM = {"diffusion.prediction_type": "edm", "diffusion.timestep_sampling": "lognormal"}
AUGMENTED = {"augmentation.probability": 0.12}
VARIANTS = {
    "default": {},
    "min-SNR": {"loss.snr_gamma": 5.0},
    "edm": EDM,
    "augmentation as condition": AUGMENTED,
    "edm, augmentation as condition": EDM | AUGMENTED,
    "no folding": {
        "network.patch_size": 1,
        "network.block_out_channels": [32, 64, 96, 96],
        "network.attention_from": 3,
    },
}
FEATURES = ("efficientnet-lite0", "cnn-busi")
METRICS = [f"kid@{features}" for features in FEATURES] + ["prc@efficientnet-lite0", "grain", "nearest-train"]
TIMED_EPOCHS = 2


def processor_seconds() -> float:
    """Return the processor time of this process and its threads so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def train(name: str, settings: dict, asked: argparse.Namespace, *, epochs: int) -> tuple[Path, float]:
    """Train one variant, or resume it; return its folder and the processor seconds of this call."""
    folder = asked.out / f"{name.replace(', ', '+').replace(' ', '-')}-{epochs}"
    used = processor_seconds()
    medzoo.train(
        "ddpm-var",
        data=asked.data / "train",
        out=folder,
        settings={**settings, "training.epochs": epochs, "training.validation_epochs": epochs, **asked.set},
        device="cpu",
    )
    return folder, processor_seconds() - used


def epochs_within(minutes: float, name: str, settings: dict, asked: argparse.Namespace) -> int:
    """Return the epochs that take `minutes` of processor time, by the difference of two short trainings."""
    _, short = train(name, settings, asked, epochs=1)
    _, longer = train(name, settings, asked, epochs=1 + TIMED_EPOCHS)
    return max(1, round(60.0 * minutes * TIMED_EPOCHS / (longer - short)))


def sample_as(model: Path | str, real: Path, out: Path, *, n: int) -> Path:
    """Sample a model into `out`, `n` images of the largest class of `real` and the others in its proportions.

    Balanced images beside real ones that are not would differ by that alone.
    """
    counts = {folder.name: sum(1 for _ in folder.iterdir()) for folder in sorted(real.iterdir()) if folder.is_dir()}
    for name, count in counts.items():
        made = out.with_name(f"{out.name}-{name}")
        medzoo.sample(model, labels=name, n=round(n * count / max(counts.values())), out=made, device="cpu")
        shutil.copytree(made / name, out / name, dirs_exist_ok=True)
    return out


def measure(model: Path | str, asked: argparse.Namespace) -> dict:
    """Compare images of a model with the `val` part."""
    images = sample_as(model, asked.data / "val", asked.out / "images" / Path(model).name, n=asked.n)
    found = medzoo.evaluate(
        fake=images, real=asked.data / "val", train=asked.data / "train", metrics=METRICS, device="cpu"
    )
    scores = {result.name: result.score for result in found.results if result.score is not None}
    floors = {result.name: result.baseline for result in found.results}
    return {
        name: {
            "value": score.value,
            "spread": score.spread,
            "details": dict(score.details),
            "failed": score.failed,
            "floor": floors[name].real if floors[name] is not None else None,
        }
        for name, score in scores.items()
    }


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""
    names = list(rows[0]["scores"])
    lines = ["| variant | epochs | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        cells = []
        for name in names:
            score = row["scores"][name]
            spread = "" if score["spread"] is None else f" ± {score['spread']:.3f}"
            cells.append(f"{score['value']:.3f}{spread}" + (" (copies)" if score["failed"] else ""))
        lines.append(f"| {row['variant']} | {row['epochs']} | " + " | ".join(cells) + " |")
    floors = [rows[0]["scores"][name]["floor"] for name in names]
    shown = ["" if floor is None else f"{floor:.3f}" for floor in floors]
    lines.append("| floor: real images of half the number | | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train and measure the variants that are not in the results yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder that `medzoo data split` made")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings and results.jsonl")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=20.0, help="processor minutes of each training")
    parser.add_argument("--n", type=int, default=100, help="images of the largest class that are measured")
    parser.add_argument("--set", type=json.loads, default={}, help="further settings of all variants, as JSON")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for name in asked.variants:
        if any(row["variant"] == name for row in rows):
            continue
        settings = VARIANTS[name]
        plan = asked.out / f"{name}.epochs"
        if not plan.exists():
            plan.write_text(str(epochs_within(asked.minutes, name, settings, asked)))
        epochs = int(plan.read_text())
        folder, _ = train(name, settings, asked, epochs=epochs)
        rows.append({"variant": name, "epochs": epochs, "scores": measure(folder, asked)})
        with results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
