"""The process of a job: runs its command of medzoo, and records how it ended."""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    """Run the command in the job's folder as `python -m medzoo` would, and write result.json."""
    # A server in the background of a shell ignores interrupts, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = json.loads((folder / "job.json").read_text("utf-8"))
    sys.argv = ["medzoo", *job["command"]]
    began, code = time.time(), 1
    try:
        runpy.run_module("medzoo", run_name="__main__")
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except KeyboardInterrupt:
        code = 130
    try:
        if code == 0 and job.get("kind") == "draw" and job["about"].get("nearest"):
            _compare(folder, Path(job["about"]["nearest"]))
    except KeyboardInterrupt:
        code = 130
    finally:
        temporary = folder / "result.json.part"
        temporary.write_text(json.dumps({"exit_code": code, "seconds": time.time() - began}), "utf-8")
        temporary.replace(folder / "result.json")
    return code


def _compare(folder: Path, real: Path) -> None:
    """Write the real image nearest to each drawn one; what is wrong with the real images goes to the log."""
    from medzoo.app.draws import IMAGES, NEAREST, find_nearest
    from medzoo.errors import MedzooError
    from medzoo.storage.files import write_json_atomic

    def progress(done: int, total: int) -> None:
        values = {"title": "comparing with real images", "done": done, "total": total}
        (folder / "progress.json").write_text(json.dumps(values), "utf-8")

    try:
        write_json_atomic(folder / NEAREST, find_nearest(folder / IMAGES, real, progress=progress))
    except MedzooError as error:
        print(f"warning: not compared with real images: {error}", file=sys.stderr)  # noqa: T201 - the job's log


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
