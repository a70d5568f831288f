"""A model of a stranger never chooses where images and keys go."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.image_api import serve
from safetensors.torch import save

from medzoo.data.images import write_image

SECRET = "aws-secret-Zx81qLmN0pRt7"


@pytest.fixture
def evil(monkeypatch):
    """A server that would collect what is sent to it; its owner knows the name of another service's key."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own-12345678")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as served:
        yield served


@pytest.fixture
def images(tmp_path):
    grain = np.random.default_rng(0).integers(0, 256, (2, 1, 40, 30), dtype=np.uint8)
    for number, pixels in enumerate(grain):
        write_image(tmp_path / "scans" / "a" / f"{number}.png", pixels)
    return tmp_path / "scans"


def description(evil, weights=b""):
    config = {
        "provider": "openai",
        "openai.base_url": evil.url,
        "openai.size": 64,
        "requests.api_key_env": "AWS_SECRET_ACCESS_KEY",
    }
    image = {"size": 64, "channels": 1, "classes": ["a"], "multi_label": False}
    facts = {"plugin": "api-variation", "config": config, "image": image, "data": {}}
    return json.dumps({**facts, "weights_sha256": hashlib.sha256(weights).hexdigest()}).encode()


def check_refused(outcome, evil, out):
    assert outcome.code == 2
    assert "is not a model: 'api-variation' has no weights" in outcome.err
    assert f"openai.base_url = '{evil.url}' (yours: 'https://api.openai.com/v1')" in outcome.err
    assert "requests.api_key_env = 'AWS_SECRET_ACCESS_KEY' (yours: 'OPENAI_API_KEY')" in outcome.err
    assert SECRET not in outcome.err
    assert evil.asked == []
    assert not out.exists()


@pytest.mark.parametrize("verb", ["augment", "sample"])
def test_folder_of_a_generator_without_weights(medzoo, evil, images, tmp_path, verb):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes(description(evil))
    (folder / "model.safetensors").write_bytes(b"")
    out = tmp_path / "out"
    if verb == "augment":
        given = ("augment", f"--gen={folder}", "--data", images, "--to", 4)
    else:
        given = ("sample", folder, "--data", images, "--n", 1)
    check_refused(medzoo(*given, "--out", out, "--allow-upload"), evil, out)


def test_repository_of_a_generator_without_weights(medzoo, evil, images, tmp_path, hub_server):
    files = {"config.json": description(evil, b"\0weights"), "model.safetensors": b"\0weights"}
    hub_server.store.put("acme/model", files)
    given = ("augment", "--gen=hf:acme/model", "--data", images, "--to", 4, "--out", tmp_path / "out")
    check_refused(medzoo(*given, "--allow-upload"), evil, tmp_path / "out")


def test_registry_entry_of_a_generator_without_weights(medzoo, evil, images, tmp_path, publish):
    published = publish("ddpm-test")
    data = description(evil, published.files["model.safetensors"])
    published.path("config.json").write_bytes(data)
    old = published.files["config.json"]
    text = published.registry.read_text().replace('plugin = "ddpm"', 'plugin = "api-variation"')
    text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(data).hexdigest())
    published.registry.write_text(text.replace(f"bytes = {len(old)} ", f"bytes = {len(data)} "))
    given = ("augment", "--gen=ddpm-test", "--data", images, "--to", 4, "--out", tmp_path / "out")
    check_refused(medzoo(*given, "--allow-upload"), evil, tmp_path / "out")


REMOTE = """
import medzoo, torch
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from medzoo import GeneratorSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.remote import Service
from medzoo.toolkit.settings import ImageSettings

@dataclass(frozen=True, kw_only=True)
class Config:
    image: ImageSettings = ImageSettings()
    host: str = setting("own.example", "the service")

def build(config, image, device):
    class Remote(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.weight = image, torch.nn.Parameter(torch.zeros(1))
            self.service = Service(host=config.host, encrypted=True, also_sent="", image_size=8, max_concurrency=1,
                max_retries=0, backoff=0, max_retry_after=0, price_per_request=0, currency="USD", max_requests=0,
                max_cost=0)
        def fit(self, data, *, seed, callback=None, checkpoints=None): ...
        def sample(self, seeds, labels, *, init_images=None): raise AssertionError("sampled")
        def connect(self): raise AssertionError("connected")
        def request(self, image, label, *, seed, idempotency_key): raise AssertionError("requested")
    return Remote()

@hookimpl
def register_generators():
    presets = Path(__file__).parent / "presets"
    return [GeneratorSpec(contract=2, name="remote", summary="", config=Config, presets=presets, build=build,
        needs_init_images=True)]
"""


def test_folder_of_a_trained_generator_that_asks_a_service(medzoo, evil, images, tmp_path, install_plugin):
    install_plugin("remote", REMOTE)
    folder = tmp_path / "model"
    folder.mkdir()
    weights = save({"weight": torch.zeros(1)})
    facts = json.loads(description(evil, weights)) | {"plugin": "remote", "config": {"host": "evil.example"}}
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "model.safetensors").write_bytes(weights)
    out = tmp_path / "out"
    given = ("augment", f"--gen={folder}", "--data", images, "--to", 4, "--out", out)
    outcome = medzoo(*given, "--allow-upload")
    assert outcome.code == 2
    assert "would send images and a key to evil.example, which its config.json names" in outcome.err
    assert not out.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": ""},
        {"HTTPS_PROXY": "socks://127.0.0.1:9"},
        {"SSL_CERT_FILE": "/nonexistent"},
    ],
)
def test_augment_network_setting_that_cannot_be_used(medzoo, evil, images, tmp_path, monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    given = ("augment", "--gen=api-variation", "--data", images, "--to", 4, "--out", tmp_path / "out")
    outcome = medzoo(*given, "--set", f"openai.base_url={evil.url}", "--allow-upload")
    assert outcome.code == 2
    assert "can be made" in outcome.err
    assert "check ALL_PROXY, HTTPS_PROXY and SSL_CERT_FILE" in outcome.err
