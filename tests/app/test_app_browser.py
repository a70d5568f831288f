"""`medzoo app` in a real browser: the pages, a job that survives its tab, and no request to any other host.

The server is the verb itself, started once; what it must not read or write is asked for over HTTP as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.chromium import chromium_page, in_chromium
from helpers.image_sets import write_folder

from medzoo.app.jobs import Jobs
from medzoo.app.paths import STATE
from medzoo.data.images import encode_png
from medzoo.data.marks import TRAINED, Mark

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed (pip install 'medzoo[app]')"),
    pytest.mark.xdist_group("app"),
]


@dataclass(frozen=True)
class Served:
    """A server, and the folder that it serves."""

    address: str
    root: Path

    def ask(self, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Send a request whose path is not changed on the way; return the status and the body of the answer."""
        connection = HTTPConnection(urlsplit(self.address).netloc, timeout=600)
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The verb on a free port, with images in its root and a secret beside it."""
    place = tmp_path_factory.mktemp("app")
    root = place / "served"
    write_folder(root / "scans", {"a": 2, "b": 2}, side=24)
    first = sorted((root / "scans" / "a").iterdir())[0]
    (root / "scans" / "b" / "copy.png").write_bytes(first.read_bytes())
    (root / "runs").mkdir()
    (root / "runs" / "report.html").write_text("<title>A run &amp; more</title><script>document.title = 'ran'</script>")
    (place / "secret.html").write_text("secret")
    (root / "linked.html").symlink_to(place / "secret.html")
    (root / "linked").symlink_to(place)
    environment = {**os.environ, "MEDZOO_CACHE": str(place / "cache")}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "medzoo", "app", "--root", str(root), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (place / "log").read_text()
        yield Served(address, root)
        if (job := Jobs(root.resolve()).running()) is not None:
            Jobs(root.resolve()).stop(job.id)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)


def test_app_reads_and_writes_nothing_else(served: Served) -> None:
    before = {path for path in served.root.parent.rglob("*") if STATE not in path.parts}
    secret = served.root.parent / "secret.html"
    for path in (
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={served.root / 'runs' / 'report.html'}",
        f"/file={secret}",
        "/medzoo/report/../secret.html",
        "/medzoo/report/%2e%2e/secret.html",
        "/medzoo/report/..%2fsecret.html",
        f"/medzoo/report/{secret}",
        f"/medzoo/report/{STATE}/current.json",
        "/medzoo/report/linked.html",
        "/medzoo/report/linked/secret.html",
        "/static/../../../secret.html",
        "/gradio_api/deep_link",
        "/gradio_api/vibe-code",
    ):
        status, body = served.ask(path)
        assert (status, b"secret" in body and b"<title>" in body) == (404, False), path
    assert served.ask("/medzoo/report/runs/report.html")[0] == 200
    assert served.ask("/", headers={"Host": "evil.example"})[0] == 403
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../evil.png"\r\n\r\nx\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert served.ask("/gradio_api/upload", body=form, headers=kind)[0] == 404
    named = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    event = json.dumps({"data": [named, named, named], "fn_index": 0, "session_hash": "x"}).encode()
    assert served.ask("/gradio_api/queue/join", body=event, headers={"Content-Type": "application/json"})[0] == 400
    for body in (b"no image", form, encode_png(np.zeros((1, 9, 9), np.uint8), Mark(source_type=TRAINED))):
        assert served.ask("/medzoo/upload", body=body)[0] == 400
    status, name = served.ask("/medzoo/upload", body=encode_png(np.arange(81, dtype=np.uint8).reshape(1, 9, 9)))
    assert status == 200
    assert (served.root / STATE / "uploads" / f"{name.decode()}.png").is_file()
    after = {path for path in served.root.parent.rglob("*") if STATE not in path.parts}
    assert {path for path in after - before if served.root.parent / "cache" not in path.parents} <= {
        served.root.parent / "cache"
    }


@in_chromium
def test_app_models_and_reports(served: Served) -> None:
    from playwright.sync_api import expect

    with chromium_page(width=360, dark=True, server=served.address) as (page, faults):
        page.goto(served.address)
        cards = page.locator("#cards .models > li")
        expect(cards.first).to_be_visible(timeout=300_000)
        everything = cards.count()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.locator("#kind input").click()
        page.get_by_role("option", name="classifier").click()
        expect(page.locator("#cards h3").first).to_have_text("cnn-busi")
        assert 0 < cards.count() < everything
        page.get_by_role("tab", name="Models").focus()
        page.get_by_role("tab", name="Reports").press("Enter")
        link = page.get_by_role("link", name="A run & more")
        expect(link).to_be_visible()
        assert page.locator("#reports-list a").count() == 1
        with page.context.expect_page() as opened:
            link.press("Enter")
        expect(opened.value).to_have_title("A run & more")
        for tab in ("Draw", "Data", "Augment", "Reports"):
            page.get_by_role("tab", name=tab).press("Enter")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
        assert not [fault for fault in faults if "Content Security Policy" not in fault]


@in_chromium
def test_app_job_survives_its_tab(served: Served) -> None:
    from playwright.sync_api import expect

    with chromium_page(server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Draw").click()
        page.locator("#number input[type=number]").fill("2")
        page.get_by_role("button", name="Draw", exact=True).press("Enter")
        expect(page.locator("#draw-message")).to_contain_text("Drawing number 1.")
        other = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
        other.set_default_timeout(120_000)
        page.close()
        other.goto(served.address)
        expect(other.locator("#job")).to_contain_text("medzoo sample dcgan-busi --label benign --n 2 --seed 0")
        other.get_by_role("tab", name="Draw").click()
        expect(other.get_by_role("button", name="Stop the job")).to_be_hidden(timeout=600_000)
        images = other.locator("#history .samples > li > img")
        expect(images).to_have_count(2, timeout=600_000)
        expect(images.first).to_have_attribute("alt", "Synthetic benign, 1 of 2, by dcgan-busi, seed 0")
        other.get_by_label("Make Synthetic benign, 2 of 2, by dcgan-busi, seed 0 again").press("Enter")
        expect(other.locator("#history details[open] code").nth(1)).to_have_text(
            "medzoo sample dcgan-busi --label benign --n 2 --seed 0 --out images"
        )
        assert not faults
    job = Jobs(served.root.resolve()).all()[0]
    assert (job.state, job.kind) == ("done", "draw")
    assert len(list((job.folder / "images" / "benign").glob("*.png"))) == 2


@in_chromium
def test_app_data_check_shows_duplicates(served: Served) -> None:
    from playwright.sync_api import expect

    with chromium_page(server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Data").click()
        page.locator("#data-folder input").fill("../secret.html")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Check", exact=True).click()
        expect(page.locator("#check-message")).to_contain_text("is not a path inside the served folder")
        page.locator("#data-folder input").fill("scans")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Check", exact=True).click()
        report = page.frame_locator("#data-report iframe")
        expect(report.get_by_role("heading", name="1 problem")).to_be_visible(timeout=600_000)
        expect(report.get_by_alt_text("b/copy.png (b)")).to_be_visible()
        assert not faults
