"""`api-variation` killed and interrupted in the middle: nothing is lost, and nothing done is asked for again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.image_api import Reply, serve, variation, with_image
from PIL import Image

from medzoo.generation.remote.ledger import LEDGER

IMAGES = 12


@pytest.fixture
def api():
    """The server, which takes its time."""
    with serve() as served:
        served.answer = lambda asked: Reply(body=with_image(variation(asked)).body, delay=0.5)
        yield served


@pytest.fixture
def start(api, tmp_path):
    """Start the command in a process of its own."""
    grain = np.random.default_rng(0).integers(0, 256, (2, 16, 16), dtype=np.uint8)
    for label, pixels in zip("ab", grain, strict=True):
        (tmp_path / "scans" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "scans" / label / "1.png")
    settings = [
        f"openai.base_url={api.url}",
        "openai.size=64",
        "requests.max_concurrency=3",
        "requests.price_per_request=0.5",
    ]
    environment = {**os.environ, "OPENAI_API_KEY": "key-for-the-test", "NO_PROXY": "127.0.0.1"}

    def call(*options):
        command = [sys.executable, "-m", "medzoo", "augment", "--gen", "api-variation", "--data", "scans", "--to", "7"]
        command += [word for setting in settings for word in ("--set", setting)]
        command += ["--out", "out", "--allow-upload", *options]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    return call


def wait_for(condition, process):
    """Nothing; the condition holds."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_augment_resume_requests_only_missing_images(start, api, tmp_path, way):
    process = start()
    wait_for(lambda: len(api.asked) >= 5, process)
    process.send_signal(way)
    error = process.communicate(timeout=600)[1]
    folder = tmp_path / "out"
    assert not (folder / "run.json").exists()
    time.sleep(0.2)  # what the process sent last may still be read by the server
    before = list(api.asked)
    there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/synthetic-*.png")}
    lines = [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]
    granted = {line["sent"]: line["file"] for line in lines if "sent" in line}
    settled = {line["settled"] for line in lines if "settled" in line}
    unsent = len(granted) - len(before)  # killed between the ledger and the network
    assert 0 <= unsent <= 3
    assert 0 < len(there) < IMAGES
    if way == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again" in error
        assert set(granted.values()) == there.keys()  # what was paid for was waited for

    second = start()
    assert second.communicate(timeout=600)[1].count("error") == 0
    assert second.returncode == 0
    assert len(list(folder.glob("*/synthetic-*.png"))) == IMAGES
    assert all((folder / name).read_bytes() == data for name, data in there.items())
    assert len(api.asked) == len(before) + IMAGES - len(there)
    unsettled = [file for number, file in granted.items() if number not in settled and file not in there]
    later = {asked.key for asked in api.asked[len(before) :]}
    again = later & {asked.key for asked in before}
    assert len(again) == len(unsettled) - unsent  # the same requests, and their keys say so
    requests = json.loads((folder / "run.json").read_text())["requests"]["api-variation"]
    assert requests["requests"] == len(api.asked) + unsent
    assert requests["cost_at_most"] == 0.5 * requests["requests"]


def test_augment_max_requests_counts_requests_in_flight_when_killed(start, api):
    process = start("--set", f"requests.max_requests={IMAGES}")
    wait_for(lambda: len(api.asked) >= 5, process)
    process.kill()
    process.communicate(timeout=600)
    again = start("--set", f"requests.max_requests={IMAGES}")
    error = again.communicate(timeout=600)[1]
    assert again.returncode == 6
    assert "requests.max_requests = 12 is reached: 12 requests were sent" in error
    assert IMAGES - 3 <= len(api.asked) <= IMAGES


def test_augment_concurrent_processes_are_refused(start, api):
    go_on = threading.Event()

    def answer(asked):
        go_on.wait(120)

    api.answer = answer
    first = start()
    wait_for(lambda: len(api.asked) >= 1, first)
    second = start()
    error = second.communicate(timeout=600)[1]
    go_on.set()
    assert first.wait(timeout=600) == 0
    first.stderr.close()
    assert second.returncode == 6
    assert "another process is requesting" in error
    assert len(api.asked) == IMAGES
