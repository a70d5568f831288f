"""Peak memory of `medzoo augment` by how many images it makes: flat, for no image is kept once it is written."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from medzoo import config as settings
from medzoo.data.phantom import write_phantom
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ImageSpec

REAL = {"normal": 8, "thick-wall": 4}
RUN = (
    "import json, resource, sys; from medzoo.cli.app import run; code = run(sys.argv[1:]); "
    "print(json.dumps({'code': code, 'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=sys.stderr)"
)


def prepare(folder: Path, *, size: int) -> tuple[Path, Path]:
    """Folders of a tiny untrained model and of a few real images."""
    spec = load_plugins().generator("ddpm")
    overrides = {"sampling.num_inference_steps": 1, "sampling.guidance_scale": 1, "image.size": size}
    resolved = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=overrides)
    image = ImageSpec(size=size, channels=1, classes=tuple(REAL))
    generator = build_model(spec, resolved, image, device="cpu")
    save_model(folder / "model", generator, spec=spec, config=resolved, data={"name": "none"})
    write_phantom(folder / "data", counts=REAL, size=size, seed=0)
    return folder / "model", folder / "data"


def peak(model: Path, data: Path, out: Path, *, target: int) -> float:
    """Peak resident memory in MB of one run."""
    command = ["augment", "--gen", model, "--data", data, "--to", target, "--out", out, "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, command)], capture_output=True, text=True, check=True)
    told = json.loads(done.stderr.splitlines()[-1])
    if told["code"]:
        raise SystemExit(done.stderr)
    return float(told["peak"]) / 1024


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    print(f"{'images made':>12} {'MB of pixels':>13} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        model, data = prepare(Path(name), size=asked.size)
        for target in asked.targets:
            made = len(REAL) * target - sum(REAL.values())
            used = peak(model, data, Path(name) / f"out-{target}", target=target)
            print(f"{made:>12} {made * asked.size**2 / 1e6:>13.1f} {used:>8.0f}")


if __name__ == "__main__":
    main()
