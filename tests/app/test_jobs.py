"""Jobs run one at a time in processes of their own; their state is on disk, and every server of a folder sees it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from medzoo.app.jobs import Job, Jobs
from medzoo.app.paths import open_root
from medzoo.errors import ConfigError, ResourceError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A served folder."""
    (tmp_path / "served").mkdir()
    return open_root(tmp_path / "served")


def wait(jobs: Jobs, job: Job) -> Job:
    """Return the job when it has ended."""
    end = time.monotonic() + 300
    while (found := jobs.find(job.id)).state == "running":
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def test_jobs_start_until_done(root: Path) -> None:
    jobs = Jobs(root)
    assert (jobs.running(), jobs.all()) == (None, [])
    job = jobs.start("data", lambda folder: ["registry", "check", "--json"], about={"of": "a test"})
    assert (job.id, job.kind, job.line, job.state) == ("000001", "data", "medzoo registry check --json", "running")
    done = wait(jobs, job)
    assert (done.state, done.exit_code, done.about) == ("done", 0, {"of": "a test"})
    assert isinstance(json.loads(done.output()), dict | list)
    assert jobs.running() is None
    with pytest.raises(ConfigError, match="job 000001 is done"):
        jobs.resume(job.id)


def test_jobs_failed_says_why_and_resumes(root: Path) -> None:
    jobs = Jobs(root)
    failed = wait(jobs, jobs.start("data", lambda folder: ["data", "check", "scans", "--out", f"{folder}/report"]))
    assert (failed.state, failed.exit_code) == ("failed", 5)
    assert failed.messages[0].startswith("error: scans ")
    assert failed.command[-1] == ".medzoo-app/jobs/000001/report"
    # What is in the served folder is no Python module of the job's.
    (root / "json.py").write_text("raise SystemExit(99)")
    assert wait(jobs, jobs.resume(failed.id)).exit_code == 5


def test_jobs_one_at_a_time_seen_by_all_and_stopped(root: Path) -> None:
    jobs, other = Jobs(root), Jobs(root)
    job = jobs.start("long", lambda folder: ["data", "phantom", "many", "--per-class", "90000", "--size", "256"])
    with pytest.raises(ResourceError, match="another job is running"):
        other.start("long", lambda folder: ["list"])
    seen = other.running()
    assert seen is not None
    assert (seen.id, seen.kind) == (job.id, "long")
    while not (root / "many").exists() and not list(root.glob(".many*")):  # it takes Ctrl-C from the start of the verb
        assert jobs.find(job.id).state == "running"
        time.sleep(0.1)
    end = time.monotonic() + 300
    while (stopped := jobs.find(job.id)).state == "running":
        assert time.monotonic() < end
        other.stop(job.id)  # as often as somebody presses the button: a library may lose an interrupt
        time.sleep(1)
    assert stopped.state == "stopped"
    assert not (root / "many").exists()
    jobs.stop(job.id)  # it has ended already
    assert wait(jobs, jobs.start("next", lambda folder: ["--version"])).state == "done"
    assert [found.kind for found in other.all()] == ["long", "next"]


def test_jobs_killed_can_be_resumed(root: Path) -> None:
    jobs = Jobs(root)
    job = wait(jobs, jobs.start("killed", lambda folder: ["--version"]))
    (job.folder / "result.json").unlink()  # as after a crash of the machine
    assert Jobs(root).find(job.id).state == "stopped"
    assert wait(jobs, jobs.resume(job.id)).state == "done"


def test_jobs_progress_is_that_of_the_verb(root: Path) -> None:
    jobs = Jobs(root)
    job = wait(jobs, jobs.start("killed", lambda folder: ["--version"]))
    (job.folder / "progress.json").write_text('{"title": "sampling", "done": 3, "total": 12}')
    found = jobs.find(job.id)
    assert (found.title, found.done, found.total, found.seconds_left) == ("sampling", 3, 12, None)
    (job.folder / "progress.json").write_text("half of")
    assert jobs.find(job.id).total == 0


@pytest.mark.parametrize("job_id", ["000009", "../000001", "1", "", "/etc"])
def test_jobs_find_unknown(root: Path, job_id: str) -> None:
    with pytest.raises(ConfigError, match="there is no job"):
        Jobs(root).find(job_id)
