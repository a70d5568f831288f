"""`api-variation` through the command line and the real client, against a server on 127.0.0.1."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
import sys
import threading
import time
from concurrent import futures
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from helpers.image_api import Reply, png, refusal, serve, variation, with_image
from PIL import Image, PngImagePlugin

from medzoo.data.images import decode
from medzoo.generation.remote import requests as asking
from medzoo.generation.remote.ledger import LEDGER

KEY = "sk-proj-Zx81qLmN0pRt7vWy"
IMAGES = 7


@pytest.fixture
def api(monkeypatch):
    """The server, with its key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as served:
        yield served


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Class folders with 3 and 2 images, whose files name a patient."""
    folder = tmp_path_factory.mktemp("images") / "scans"
    named = PngImagePlugin.PngInfo()
    named.add_text("PatientName", "Jane Roe")
    grain = np.random.default_rng(0).integers(0, 256, (5, 40, 30), dtype=np.uint8)
    for label, numbers in {"grade 0": (0, 1, 2), "grade 1": (3, 4)}.items():
        (folder / label).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(grain[number]).save(folder / label / f"roe-{number}.png", pnginfo=named)
    return folder


@pytest.fixture
def augment(medzoo, api, images, tmp_path):
    """Fill both classes up to 6, which takes 3 + 4 requests, with small images and short waits."""

    def call(*options, generators=("api-variation",), allow=True):
        return medzoo(
            *("augment", *(f"--gen={name}" for name in generators)),
            *("--data", images, "--to", 6, "--out", tmp_path / "out"),
            *("--set", f"openai.base_url={api.url}", "--set", "openai.size=64", "--set", "requests.backoff=0.01"),
            *(["--allow-upload"] if allow else []),
            *options,
        )

    return call


def made(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/synthetic-*.png"))


def ledger(folder):
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


def once(reply):
    """An answer that fails each image's first request."""
    seen = set()

    def answer(asked):
        if asked.image in seen:
            return None
        seen.add(asked.image)
        return reply(asked) if callable(reply) else reply

    return answer


# leave, and what is sent


def test_augment_without_allow_upload_sends_nothing(augment, api, images, tmp_path):
    outcome = augment("--set", "requests.price_per_request=0.04", allow=False)
    assert outcome.code == 2
    assert api.asked == []
    assert not (tmp_path / "out").exists()
    error = outcome.err[outcome.err.index("error:") :]
    for told in (
        "--allow-upload was not given",
        "7 requests (grade 0 3, grade 1 4)",
        f"to {api.host}, not encrypted",
        "0.28 USD at 0.04 each",
        f"5 different images of {images}",
        "PNGs of 64x64 pixels without metadata",
        "the model's name, gpt-image-2.5-flare, and the prompt 'Another medical image like this one, of class {label}:",
        "nothing was sent",
    ):
        assert told in error


def test_augment_dry_run_shows_cost_without_permission_or_key(augment, api, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    outcome = augment("--dry-run", "--set", "requests.price_per_request=0.04", allow=False)
    assert outcome.code == 0
    assert "7 requests (grade 0 3, grade 1 4)" in outcome.err
    assert "0.28 USD at 0.04 each" in outcome.err
    rows = json.loads(augment("--dry-run", "--json", "--set", "requests.price_per_request=0.04", allow=False).out)[
        "requests"
    ]
    assert [(row["requests"], row["images"], row["cost"], row["currency"]) for row in rows] == [(7, 5, 0.28, "USD")]
    assert api.asked == []
    assert not (tmp_path / "out").exists()


def test_augment_dry_run_of_unfinished_run_counts_the_rest(augment, api):
    api.answer = lambda asked: refusal(400) if asked.number > 3 else None
    assert augment("--set", "requests.max_concurrency=1", "--set", "requests.price_per_request=0.04").code == 6
    before = len(api.asked)
    (row,) = json.loads(augment("--dry-run", "--json", "--set", "requests.price_per_request=0.04").out)["requests"]
    assert (row["requests"], row["sent"], row["spent"]) == (4, 7, 0.12)
    assert len(api.asked) == before


def test_augment_without_key_does_not_start(augment, api, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    outcome = augment()
    assert outcome.code == 2
    assert "$OPENAI_API_KEY is not set" in outcome.err
    assert not (tmp_path / "out").exists()


def test_augment_creates_and_records_every_image(augment, api, tmp_path):
    outcome = augment("--set", "requests.price_per_request=0.04")
    folder = tmp_path / "out"
    assert outcome.code == 0
    assert len(made(folder)) == len(api.asked) == len(api.counts()) == IMAGES
    assert decode(folder / made(folder)[0]).shape == (30, 30)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["origin"] == "synthetic"]
    assert {row["generator"] for row in rows} == {"api-variation"}
    assert len({(row["label"], row["seed"]) for row in rows}) == IMAGES
    assert all(row["source_image"].startswith(f"{row['label']}/roe-") for row in rows)
    assert {line["seed"] for line in ledger(folder) if "sent" in line} == {int(row["seed"]) for row in rows}
    record = json.loads((folder / "run.json").read_text())
    asked = {"host": api.host, "requests": 7, "cost_at_most": 0.28, "currency": "USD"}
    assert record["requests"] == {"api-variation": asked}
    assert "'api-variation' sent 7 requests, for at most 0.28 USD" in outcome.err


def test_augment_sends_only_pixels(augment, api):
    augment()
    for asked in api.asked:
        assert asked.path == "/v1/images/edits"
        assert asked.filename == "image.png"
        assert asked.fields.keys() == {"model", "n", "size", "prompt"}
        assert re.search(r"of class grade [01]:", asked.fields["prompt"])
        with Image.open(io.BytesIO(asked.image)) as image:
            assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (64, 64), {})
        chunks = {asked.image[place - 4 : place] for place in range(8, len(asked.image))} & {b"tEXt", b"iTXt", b"eXIf"}
        assert not chunks
        assert b"Roe" not in asked.image
        assert "roe" not in str(asked.headers).lower()


def test_augment_output_matches_its_source_image(augment, api, tmp_path, images):
    augment()
    with (tmp_path / "out" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["origin"] == "synthetic":
                source = Image.open(images / row["source_image"]).resize((30, 30), Image.Resampling.BICUBIC)
                picture = decode(tmp_path / "out" / row["file_name"]).astype(float)
                assert np.corrcoef(picture.ravel(), np.asarray(source, float).ravel())[0, 1] < -0.9  # it was inverted


def test_augment_variations_endpoint_takes_no_prompt(augment, api):
    assert augment("--set", "openai.model=dall-e-2").code == 0
    for asked in api.asked:
        assert asked.path == "/v1/images/variations"
        assert asked.fields == {"model": "dall-e-2", "n": "1", "size": "64x64", "response_format": "b64_json"}


def test_augment_response_with_url(augment, api, tmp_path):
    api.answer = lambda asked: Reply(body=json.dumps({"data": [{"url": f"{api.root}/x.png"}]}).encode())
    assert augment().code == 0
    assert len(made(tmp_path / "out")) == len(api.fetched) == IMAGES
    assert KEY not in str(api.fetched)
    assert not [headers for headers in api.fetched if "authorization" in map(str.lower, headers)]


def test_augment_redirect_to_another_host_is_refused(augment, api):
    with serve() as other:
        api.answer = lambda asked: refusal(307, Location=f"{other.url}/images/edits")
        outcome = augment()
        assert outcome.code == 2
        assert "redirect" in outcome.err
        assert other.asked == []


def test_augment_mixture_requests_only_its_share(augment, api, tmp_path):
    assert augment(generators=("api-variation=0.5", "classic=0.5")).code == 0
    names = [Path(name).name.rpartition("-")[0] for name in made(tmp_path / "out")]
    assert {name: names.count(name) for name in names} == {"synthetic-api-variation": 4, "synthetic-classic": 3}
    assert len(api.asked) == 4


def test_sample_requires_allow_upload_and_a_folder(medzoo, api, images, tmp_path):
    command = ("sample", "api-variation", "--data", images, "--n", 2, "--set", f"openai.base_url={api.url}")
    command += ("--set", "openai.size=64")
    assert medzoo(*command, "--out", tmp_path / "out").code == 2
    grid = medzoo(*command, "--grid", tmp_path / "grid.png", "--allow-upload")
    assert grid.code == 2
    assert "give --out" in grid.err
    assert api.asked == []
    assert medzoo(*command, "--out", tmp_path / "out", "--allow-upload").code == 0
    assert len(made(tmp_path / "out")) == len(api.asked) == 4


# failures and repetitions

FAILURES = {
    "rate limit": refusal(429, Retry_After="0"),
    "server error": refusal(500),
    "bad gateway": Reply(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"}),
    "no JSON": Reply(body=b"\x00\xff garbage"),
    "no data": Reply(body=b"{}"),
    "null": Reply(body=b"null"),
    "bad base64": Reply(body=b'{"data": [{"b64_json": "!!!"}]}'),
    "a number": Reply(body=b'{"data": [{"b64_json": 5}]}'),
    "a file": Reply(body=b'{"data": [{"url": "file:///etc/passwd"}]}'),
    "no image": with_image(b"garbage"),
    "half an image": lambda asked: with_image(variation(asked)[:200]),
    "one color": with_image(png(Image.new("RGB", (64, 64), "black"))),
    "a stamp": with_image(png(Image.radial_gradient("L").resize((8, 8)))),
    "cut": lambda asked: Reply(body=with_image(variation(asked)).body, cut=True),
    "too slow": Reply(delay=4.0),
    "bad gzip": Reply(body=b"garbage", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_augment_failure_loses_no_image(augment, api, tmp_path, failure):
    api.answer = once(failure)
    impatient = ["--set", "requests.timeout=2"] if failure is FAILURES["too slow"] else []
    outcome = augment("--set", "requests.price_per_request=1.0", *impatient)
    assert outcome.code == 0
    assert len(made(tmp_path / "out")) == IMAGES
    assert len(api.asked) == IMAGES + 5  # five sources failed once
    assert json.loads((tmp_path / "out" / "run.json").read_text())["requests"]["api-variation"]["requests"] == 12


def test_augment_lost_response_keeps_idempotency_key(augment, api):
    api.answer = once(Reply(body=b"x" * 100, cut=True))
    assert augment("--set", "requests.max_concurrency=1").code == 0
    assert sorted(api.counts().values()) == [1] * 2 + [2] * 5


def test_augment_invalid_response_uses_new_idempotency_key(augment, api):
    api.answer = once(with_image(b"garbage"))
    assert augment().code == 0
    assert set(api.counts().values()) == {1}


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_augment_retry_after_applies_to_all_threads(augment, api, form):
    under_way, refused = threading.Event(), threading.Event()

    def answer(asked):
        if asked.number > 1:
            if asked.number == 3:
                under_way.set()
            refused.wait(120)
            return Reply(body=with_image(variation(asked)).body, delay=0.5)
        assert under_way.wait(120)
        refused.set()
        # A date has whole seconds: of three, more than two are left.
        return refusal(429, Retry_After="1" if form == "seconds" else formatdate(time.time() + 3, usegmt=True))

    api.answer = answer
    assert augment("--set", "requests.max_concurrency=3").code == 0
    assert under_way.is_set()
    assert all(asked.at - api.asked[0].at >= 1.0 for asked in api.asked[3:])
    assert len(api.asked) == IMAGES + 1


def test_augment_backoff_grows_exponentially(augment, api):
    api.answer = lambda asked: refusal(500) if asked.number <= 4 else None
    assert augment("--set", "requests.max_concurrency=1", "--set", "requests.backoff=0.2").code == 0
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(api.asked[:5])]
    assert all(gap >= 0.1 * 2**attempt for attempt, gap in enumerate(gaps))


def test_augment_max_concurrency_limits_requests(augment, api):
    now, most, lock = 0, 0, threading.Lock()

    def answer(asked):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.2)
        with lock:
            now -= 1

    api.answer = answer
    assert augment("--set", "requests.max_concurrency=3").code == 0
    assert most == 3


def test_augment_without_client_names_pip_extra(augment, api, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    outcome = augment()
    assert outcome.code == 2
    assert "pip install 'medzoo[api]'" in outcome.err


def test_augment_excessive_retry_after_aborts(augment, api, tmp_path):
    api.answer = lambda asked: refusal(429, "slow down", Retry_After="7200") if asked.number == 3 else None
    outcome = augment("--set", "requests.max_concurrency=1")
    assert outcome.code == 6
    assert "asks to wait 7200 seconds" in outcome.err
    assert len(api.asked) == 3
    assert augment().code == 0
    assert len(api.asked) == 1 + IMAGES


def test_augment_failed_image_keeps_the_others(augment, api, tmp_path):
    api.answer = lambda asked: refusal(500, "overloaded") if "grade 1" in asked.fields["prompt"] else None
    outcome = augment("--set", "requests.max_retries=1", "--set", "requests.max_concurrency=2")
    assert outcome.code == 6
    assert "4 of 7 images could not be made" in outcome.err
    for number in range(4):
        assert re.search(rf"grade 1/synthetic-api-variation-00000{number}.png \(of grade 1/roe-[34].png\)", outcome.err)
    assert "HTTP 500: overloaded (2 times)" in outcome.err
    folder = tmp_path / "out"
    assert len(made(folder)) == 3
    assert not (folder / "run.json").exists()
    before = len(api.asked)
    api.answer = lambda asked: None
    assert augment().code == 0
    assert len(made(folder)) == IMAGES
    assert len(api.asked) - before == 4


def test_augment_rejected_request_is_not_retried(augment, api):
    api.answer = lambda asked: refusal(400, "moderation", "moderation_blocked") if asked.number == 1 else None
    assert augment().code == 6
    assert len(api.asked) == IMAGES


def test_augment_unavailable_service_aborts(augment, api):
    api.answer = lambda asked: refusal(500, "down")
    outcome = augment("--to", 40, "--set", "requests.max_retries=0", "--set", "requests.max_concurrency=1")
    assert outcome.code == 6
    assert "8 images in a row" in outcome.err
    assert len(api.asked) == 8


@pytest.mark.parametrize("reply", [refusal(429, "Quota", "insufficient_quota"), refusal(402)], ids=["quota", "402"])
def test_augment_insufficient_credit_aborts(augment, api, reply):
    api.answer = lambda asked: reply
    outcome = augment("--set", "requests.max_concurrency=1")
    assert outcome.code == 6
    assert "credit" in outcome.err
    assert len(api.asked) == 1


def test_augment_unreachable_server(augment, api, medzoo):
    outcome = augment("--set", "openai.base_url=http://127.0.0.1:9/v1", "--set", "requests.max_retries=0")
    assert outcome.code == 6
    assert "cannot connect to 127.0.0.1:9" in outcome.err


# caps


@pytest.mark.parametrize("cap", ["requests.max_requests=10", "requests.max_cost=0.40"])
def test_augment_max_cost_covers_threads_retries_and_runs(augment, api, tmp_path, cap):
    api.answer = lambda asked: refusal(500)
    price = (
        "--set",
        "requests.price_per_request=0.04",
        "--set",
        "requests.max_concurrency=8",
        "--set",
        "requests.max_retries=3",
    )
    outcome = augment(*price, "--set", cap)
    assert outcome.code == 6
    assert f"{cap.split('=')[0]} = " in outcome.err
    assert len(api.asked) == 10
    again = augment(*price, "--set", cap)
    assert again.code == 6
    assert "limits allow 0 of them" in again.err
    assert len(api.asked) == 10
    api.answer = lambda asked: None
    assert augment(*price, "--set", "requests.max_requests=17", "--set", "requests.max_cost=0.68").code == 0
    assert len(api.asked) == 17


def test_augment_rejected_request_costs_nothing(augment, api):
    api.answer = once(refusal(429))
    price = ("--set", "requests.price_per_request=0.04", "--set", "requests.max_cost=0.28")
    outcome = augment(*price)
    assert outcome.code == 0
    assert "sent 12 requests, for at most 0.28 USD" in outcome.err


def test_augment_max_cost_requires_price(augment, api):
    outcome = augment("--set", "requests.max_cost=1")
    assert outcome.code == 2
    assert "requests.price_per_request" in outcome.err
    assert api.asked == []


def test_augment_resume_allows_only_request_settings_to_change(augment, api):
    assert augment("--set", "requests.max_requests=3").code == 6
    assert augment("--set", "prompt=something else").code == 5
    assert augment("--set", "requests.max_concurrency=2", "--set", "requests.timeout=9").code == 0
    assert len(api.asked) == IMAGES


# the key

ECHOES = {
    "unauthorized": lambda asked: refusal(401, f"bad header {asked.headers['Authorization']}", "invalid_api_key"),
    "forbidden": lambda asked: refusal(403, f"no entry for {KEY[:12]}***"),
    "refused": lambda asked: refusal(400, f"what is {asked.headers['Authorization']}"),
    "failed": lambda asked: refusal(500, str(asked.headers).upper()),
    "encoded": lambda asked: refusal(500, base64.b64encode(asked.headers["Authorization"].encode()).decode()),
    "as text": lambda asked: Reply(400, asked.headers["Authorization"].encode(), {"Content-Type": "text/plain"}),
    "as image": lambda asked: with_image(asked.headers["Authorization"].encode()),
    "done": lambda asked: None,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_augment_key_appears_only_in_its_header(augment, api, tmp_path, caplog, echo):
    caplog.set_level("DEBUG")
    api.answer = echo
    outcome = augment("--set", "requests.max_retries=1", "--set", "requests.max_concurrency=2")
    assert all(asked.headers["Authorization"] == f"Bearer {KEY}" for asked in api.asked)
    told = outcome.out + outcome.err + caplog.text
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for piece in {KEY[place : place + 10] for place in range(len(KEY) - 9)} | {KEY[:12], KEY[-6:]}:
        assert piece.lower() not in told.lower()
        assert piece.lower().encode() not in kept.lower()


@pytest.mark.parametrize("echo", ["unauthorized", "failed", "as text"])
def test_augment_key_is_in_no_traceback(augment, api, tmp_path, echo, monkeypatch):
    import traceback

    from medzoo.cli import app

    seen = []
    report = app._report
    monkeypatch.setattr(app, "_report", lambda *what: seen.append(traceback.format_exc()) or report(*what))
    api.answer = ECHOES[echo]
    augment("--set", "requests.max_retries=0")
    assert "Traceback" in seen[0]
    assert KEY[:10].lower() not in seen[0].lower()


def test_augment_reports_first_fatal_error_in_any_order(augment, api, monkeypatch):
    waits, ask = itertools.count(), asking._RequestRunner._wait_until_allowed

    def wait_for_leave(asker):
        if next(waits):
            asker._stopping.wait(120)  # all requests but the first come when the job is being stopped
        ask(asker)

    def finished(under_way):
        futures.wait(under_way)
        ready = sorted(under_way, key=lambda future: not isinstance(future.exception(), asking._Stopped))
        return [(under_way.pop(future), future) for future in ready]

    monkeypatch.setattr(asking._RequestRunner, "_wait_until_allowed", wait_for_leave)
    monkeypatch.setattr(asking, "_finished", finished)
    api.answer = lambda asked: refusal(401, "no such key", "invalid_api_key")
    outcome = augment("--set", "requests.max_concurrency=3")
    assert (outcome.code, len(api.asked)) == (2, 1)
    assert "check the key in $OPENAI_API_KEY" in outcome.err


def test_augment_invalid_key_aborts_at_once(augment, api):
    api.answer = lambda asked: refusal(401, "Incorrect API key")
    outcome = augment("--set", "requests.max_concurrency=2")
    assert outcome.code == 2
    assert "HTTP 401: Incorrect API key" in outcome.err
    assert "$OPENAI_API_KEY" in outcome.err
    assert len(api.asked) <= 2


@pytest.mark.parametrize(
    "given", [f"requests.api_key_env={KEY}", f"openai.base_url=http://me:{KEY}@127.0.0.1/v1", f"openai.api_key={KEY}"]
)
def test_augment_key_in_settings_is_refused_without_echo(augment, api, tmp_path, given):
    outcome = augment("--set", given)
    assert outcome.code == 2
    assert KEY not in outcome.err + outcome.out
    assert not list(tmp_path.iterdir())


def test_augment_api_key_env(augment, api, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OTHER_KEY", "other-key-12345")
    assert augment("--set", "requests.api_key_env=OTHER_KEY").code == 0
    assert {asked.headers["Authorization"] for asked in api.asked} == {"Bearer other-key-12345"}


@pytest.mark.parametrize("key", ["two words", "schlüssel"])
def test_augment_malformed_key_is_reported_without_echo(augment, api, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    outcome = augment()
    assert outcome.code == 2
    assert "is not an API key" in outcome.err
    assert key not in outcome.err


def test_augment_request_is_logged_before_it_is_sent(augment, api, tmp_path):
    written = []

    def answer(asked):
        written.append(sum("sent" in line for line in ledger(tmp_path / "out")) >= asked.number)

    api.answer = answer
    assert augment().code == 0
    assert written == [True] * IMAGES


def test_augment_relative_out_folder(augment, api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert augment("--out", Path("here")).code == 0
    assert len(made(tmp_path / "here")) == IMAGES


def test_augment_skips_images_of_another_process(augment, api, tmp_path, monkeypatch):
    from medzoo.generation import run as filling

    assert augment().code == 0
    (tmp_path / "out" / "run.json").unlink()
    everything = [path.rename(path.with_suffix(".aside")) for path in (tmp_path / "out").glob("*/synthetic-*.png")]
    place = filling.place_originals

    def late(*arguments, **options):
        for path in everything:
            path.rename(path.with_suffix(".png"))
        return place(*arguments, **options)

    monkeypatch.setattr(filling, "place_originals", late)
    assert augment().code == 0
    assert len(api.asked) == IMAGES


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "api-variation.md").read_text("utf-8")


def test_docs_name_existing_settings():
    from medzoo.config import keys
    from medzoo_api_variation.settings import ApiVariationConfig

    named = set(re.findall(r"`((?:openai|diffusers|requests|image)\.\w+)`", DOCS))
    named |= set(re.findall(r"--set ([\w.]+)=", DOCS))
    assert len(named) > 15
    assert named - {"image.png"} <= set(keys(ApiVariationConfig))
    assert {key for key in keys(ApiVariationConfig) if key.startswith(("openai.", "requests."))} <= named


@pytest.mark.parametrize("command", re.findall(r"^medzoo (?:augment|plugin) .*$", DOCS, re.MULTILINE))
def test_docs_name_existing_options(command):
    import typer

    from medzoo.cli.app import app

    verbs = typer.main.get_command(app)
    context = verbs.make_context("medzoo", [], resilient_parsing=True)
    options = {option for parameter in verbs.get_command(context, "augment").params for option in parameter.opts}
    assert {word for word in command.split() if word.startswith("--")} <= options
