"""`medzoo app` in a real browser: the pages, a job that survives its tab, and no request to any other host.

The server is the verb itself, started once; what it must not read or write is asked for over HTTP as well.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.chromium import chromium, in_chromium, new_page
from helpers.image_sets import write_folder
from helpers.tiny import make_model

import medzoo
from medzoo.app.jobs import Jobs
from medzoo.app.paths import STATE
from medzoo.data.images import encode_png
from medzoo.data.marks import TRAINED, Mark

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed (pip install 'medzoo[app]')"),
    pytest.mark.xdist_group("app"),
]

# What somebody may have dropped into the folder.
HOSTILE = """<title>A run &amp; more</title><script>document.title = 'ran'</script>
<img src="missing" onerror="document.title = 'ran'"><script src="/assets/index.js"></script>
<form action="/medzoo/upload" method="post" enctype="text/plain"><button>Send</button></form>"""


@dataclass(frozen=True)
class Served:
    """A server, and the folder that it serves."""

    address: str
    root: Path

    def ask(self, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Send a request whose path is not changed on the way; return the status, and the body but for a stream's."""
        connection = HTTPConnection(urlsplit(self.address).netloc, timeout=600)
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        streams = (answer.getheader("content-type") or "").startswith("text/event-stream")
        found = answer.status, b"" if streams else answer.read()
        connection.close()
        return found


@contextmanager
def server(root: Path, *options: str) -> Iterator[Served]:
    """The verb on a free port."""
    place = root.parent
    log = place / f"log{len(options)}"
    with log.open("w") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "medzoo", "app", "--root", str(root), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            env={**os.environ, "MEDZOO_CACHE": str(place / "cache")},
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0."), log.read_text()
        yield Served(address, root)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server, with images, a model, and pages in its root, and a secret beside it."""
    place = tmp_path_factory.mktemp("app")
    root = place / "served"
    write_folder(root / "scans", {"a": 2, "b": 2}, side=24)
    first = sorted((root / "scans" / "a").iterdir())[0]
    (root / "scans" / "b" / "copy.png").write_bytes(first.read_bytes())
    (root / "runs").mkdir()
    (root / "runs" / "report.html").write_text(HOSTILE)
    sets = [write_folder(place / f"set{seed}", {"a": 2, "b": 2}, side=32, seed=seed) for seed in (0, 900)]
    medzoo.new_study(*sets, out=root / "study", per_class=2, repeats=0.0)
    medzoo.gallery(root / "site")
    (place / "secret.html").write_text("secret")
    (root / "linked.html").symlink_to(place / "secret.html")
    (root / "linked").symlink_to(place)
    with server(root) as found:
        yield found
        if (job := Jobs(root.resolve()).running()) is not None:
            Jobs(root.resolve()).stop(job.id)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with chromium() as found:
        yield found


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
def test_app_models_on_a_phone(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with new_page(browser, width=360, dark=True, server=served.address) as (page, faults):
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
        for tab in ("Draw", "Data", "Augment", "Reports"):
            page.get_by_role("tab", name=tab).press("Enter")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
        assert not faults


@in_chromium
def test_app_reports_run_own_scripts_alone(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with new_page(browser, server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Reports").press("Enter")
        links = page.locator("#reports-list a")
        expect(links).to_have_count(3)  # of the gallery, its first page alone
        addresses = dict(zip(links.all_text_contents(), links.evaluate_all("all => all.map(a => a.href)"), strict=True))
        assert not faults
    with new_page(browser, server=served.address) as (page, faults):
        page.goto(addresses["Gallery of models"])
        page.locator("#kind").select_option("classifier")
        page.locator(".models").get_by_role("link", name="cnn-busi", exact=True).press("Enter")
        expect(page.get_by_role("heading", name="cnn-busi", level=1)).to_be_visible()
        expect(page.get_by_role("button", name="Copy: medzoo pull cnn-busi")).to_be_visible()
        page.goto(addresses["Reading study"])
        page.get_by_label("Reader code").fill("R1")
        page.get_by_label("I have read this").check()
        page.get_by_role("button", name="Begin").press("Enter")
        expect(page.locator("#reading-title")).to_be_focused()
        assert not faults

        before = set((served.root / STATE).rglob("*"))
        page.goto(addresses["A run & more"])
        expect(page).to_have_title("A run & more")
        page.get_by_role("button", name="Send").click(no_wait_after=True)
        # What its scripts would be refused, did they run.
        assert page.evaluate("self.origin") == "null"
        for request in ("fetch('/config')", "fetch('/medzoo/upload', {method: 'POST', body: 'x', mode: 'no-cors'})"):
            assert page.evaluate(f"{request}.then(() => 'sent', () => 'refused')") == "refused"
        assert page.url == addresses["A run & more"]
        assert set((served.root / STATE).rglob("*")) == before
    assert served.ask("/medzoo/upload", body=b"x", headers={"Origin": "null"})[0] == 403


@in_chromium
def test_app_lists_what_appears_in_the_folder(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with new_page(browser, server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Data").click()
        make_model(served.root / "runs" / "mine", classes=("lump", "cyst"))
        write_folder(served.root / "later", {"a": 1}, side=24)
        (served.root / "later" / "new.html").write_text("<title>New report</title>")
        page.get_by_role("button", name="Refresh").click()
        page.locator("#data-folder input").click()
        expect(page.get_by_role("option", name="later", exact=True)).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Reports").click()
        expect(page.get_by_role("link", name="New report")).to_be_visible()
        page.get_by_role("tab", name="Draw").click()
        page.locator("#generator input").click()
        page.get_by_role("option", name="runs/mine").click()
        expect(page.get_by_label("lump")).to_be_checked()
        page.locator("#generator input").click()
        page.get_by_role("option", name="classic").click()
        expect(page.get_by_label("own-image")).to_be_checked()
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.locator("#draw-message")).to_contain_text("'classic' varies a real image, and none is given")
        assert not faults
    (served.root / "later" / "new.html").unlink()


@in_chromium
def test_app_job_survives_its_tab(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with new_page(browser, server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Draw").click()
        page.locator("#number input[type=number]").fill("2")
        page.get_by_role("button", name="Draw", exact=True).press("Enter")
        expect(page.locator("#draw-message")).to_contain_text("Drawing number")
        other = browser.new_context().new_page()
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
        other.context.close()
        assert not faults
    job = Jobs(served.root.resolve()).all("draw")[-1]
    assert (job.state, job.kind) == ("done", "draw")
    assert len(list((job.folder / "images" / "benign").glob("*.png"))) == 2


@in_chromium
def test_app_data_check_shows_duplicates(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with new_page(browser, server=served.address) as (page, faults):
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


@in_chromium
def test_app_augments_stops_and_resumes(served: Served, browser: Browser, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    jobs = Jobs(served.root.resolve())
    write_folder(served.root / "lesions", {"benign": 3, "malignant": 2}, side=64)
    out = served.root / "filled"
    with new_page(browser, server=served.address) as (page, faults):
        page.goto(served.address)
        page.get_by_role("tab", name="Augment").click()
        page.locator("#fill-data input").fill("lesions")
        page.keyboard.press("Enter")
        page.locator("#fill-to input").fill("400")
        page.get_by_label("Folder to fill").fill("filled")
        page.get_by_role("button", name="Start").press("Enter")
        expect(page.locator("#fill-message")).to_contain_text("Started: job")
        # The job stands still while the pages are looked at, as soon as it has made images.
        while not (job := jobs.all("augment")[-1]).done:
            assert job.state == "running", job.messages
            time.sleep(0.01)
        process = json.loads((jobs.root / STATE / "current.json").read_text())["pid"]
        os.killpg(process, signal.SIGSTOP)
        assert job.line == "medzoo augment --gen dcgan-busi --to 400 --data lesions --out filled --seed 0"
        expect(page.locator("#job progress")).to_be_visible()
        page.reload()
        expect(page.locator("#job progress")).to_be_visible()
        with new_page(browser, server=served.address) as (other, other_faults):
            other.goto(served.address)
            expect(other.locator("#job code")).to_have_text(job.line)
            expect(other.locator("#job progress")).to_have_attribute("value", str(jobs.find(job.id).done))
            other.get_by_role("tab", name="Draw").click()
            other.get_by_role("button", name="Draw", exact=True).click()
            expect(other.locator("#draw-message")).to_contain_text("Another job is running")
            other.get_by_role("button", name="Stop the job").press("Enter")
            while not (job.folder / "stop").exists():
                time.sleep(0.01)
            os.killpg(process, signal.SIGCONT)
            expect(other.locator("#job progress")).to_have_count(0)
            assert not other_faults
        page.get_by_role("tab", name="Augment").click()
        expect(page.locator("#filled .badge")).to_have_text("stopped")
        made = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
        assert job.done <= len(made) < 795
        page.get_by_role("button", name="Resume the last one").press("Enter")
        expect(page.locator("#filled .badge")).to_have_text("done")
        expect(page.get_by_alt_text("Contact sheet of synthetic images in filled")).to_be_visible()
        assert not faults
    assert {path: path.stat().st_mtime_ns for path in made} == made
    shutil.copytree(served.root / "lesions", tmp_path / "lesions")
    subprocess.run([sys.executable, "-m", "medzoo", *job.command], cwd=tmp_path, check=True, capture_output=True)
    direct = contents(tmp_path)
    assert len(direct) > 800
    assert direct == {name: data for name, data in contents(served.root).items() if name in direct}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for records of runs, which say when and how long they ran."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


@in_chromium
def test_app_token_at_another_address(served: Served, browser: Browser) -> None:
    from playwright.sync_api import expect

    with server(served.root, "--host", "127.0.0.2") as guarded:
        address, _, token = guarded.address.partition("?token=")
        asked = Served(address, served.root)
        event = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
        requests = [
            *(("/", None), ("/config", None), ("/theme.css", None), ("/gradio_api/info", None)),
            *(("/gradio_api/startup-events", None), ("/gradio_api/queue/data?session_hash=x", None)),
            *(("/gradio_api/heartbeat/x", None), ("/medzoo/report/site/index.html", None)),
            *(("/gradio_api/queue/join", event), ("/gradio_api/cancel", event), ("/gradio_api/reset", event)),
            ("/medzoo/upload", encode_png(np.zeros((1, 9, 9), np.uint8))),
        ]
        kind = {"Content-Type": "application/json"}
        for path, body in [*requests, ("/gradio_api/file=x", None), ("/?token=wrong", None), ("/none", None)]:
            assert asked.ask(path, body=body, headers=kind)[0] == 401, path
            assert asked.ask(path, body=body, headers={**kind, "Cookie": "medzoo=x"})[0] == 401, path
        cookie = f"medzoo-{urlsplit(address).port}={token}"
        for path, body in requests:
            assert asked.ask(path, body=body, headers={**kind, "Cookie": cookie})[0] in (200, 422), path
        assert asked.ask("/gradio_api/file=x", headers={"Cookie": cookie})[0] == 404
        with new_page(browser, server=address) as (page, _):
            page.goto(address)
            for given in ("wrong", token):
                page.get_by_label("Token").fill(given)
                page.keyboard.press("Enter")
                if given != token:
                    expect(page.get_by_role("alert")).to_have_text("This token is not the right one.")
            page.get_by_role("tab", name="Reports").click()
            with page.context.expect_page() as opened:
                page.get_by_role("link", name="Gallery of models").press("Enter")
            # A report is of no origin; the token goes along with its links nevertheless.
            opened.value.locator(".models").get_by_role("link", name="dcgan-busi", exact=True).click()
            expect(opened.value.get_by_role("heading", name="dcgan-busi", level=1)).to_be_visible()
        with new_page(browser, server=address) as (page, faults):
            page.goto(guarded.address)
            expect(page.get_by_role("tab", name="Draw")).to_be_visible()
            assert page.url == address
            assert not faults
