"""What every test has: folders of its own instead of the user's, and one thread a process."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.logs import logged_messages

if TYPE_CHECKING:
    from helpers.hub_server import HubServer

# torch reads these when it is first imported, here and in the programs tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

pytest_plugins = ["pytester", "helpers.augmentation"]


def pytest_configure(config: pytest.Config) -> None:
    """Nothing; lets pass the one warning a library of ours causes in another: a push gives httpx2 a file as data.

    Programs that tests start can be interrupted, however the tests were started.
    """
    # A shell's background job ignores interrupts, and so would every program that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>':DeprecationWarning:httpx2")


@pytest.fixture(autouse=True)
def user_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the user's home; no setting of the real user reaches a test."""
    home = tmp_path_factory.mktemp("home")
    for variable in ("MEDZOO_MIRROR", "MEDZOO_REGISTRY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MEDZOO_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return home


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def medzoo(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `medzoo` with these arguments in this process."""
    from medzoo.cli.app import run

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages that medzoo logs during the test, from INFO on."""
    with logged_messages() as messages:
        yield messages


@pytest.fixture
def install_plugin(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Install a distribution with one entry point `name`, whose module has this source, for the test."""
    from medzoo.plugins.discovery import forget_installed

    def install(name: str, source: str, *, distribution: str = "") -> Path:
        site = tmp_path_factory.mktemp("site")
        module = f"plugin_{hashlib.sha256(f'{site}{source}'.encode()).hexdigest()[:12]}"
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[medzoo]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(site)
        forget_installed()
        return site

    yield install
    forget_installed()


@pytest.fixture
def hub_server(user_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on 127.0.0.1, where HF_ENDPOINT points, here and in the programs the test starts; HF_TOKEN may write.

    huggingface_hub reads all but HF_TOKEN when it is imported, which may have been long ago: hence its constants.
    """
    from helpers.hub_server import HubServer
    from huggingface_hub import close_session, constants, hf_api

    with HubServer().running() as server:
        home = user_folders / "huggingface"
        environment = {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_write",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        close_session()
        yield server
        close_session()


@dataclass(frozen=True)
class Published:
    """A model that a mirror holds and a registry file names."""

    id: str
    registry: Path
    mirror: Path
    files: dict[str, bytes]

    def path(self, name: str) -> Path:
        """A file of the model in the mirror."""
        return self.mirror / self.id / name


@pytest.fixture
def publish_on_hub(
    hub_server: HubServer, publish: Callable, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Published]:
    """Publish a small model on the test's Hub alone, in acme/<id>; attempts follow each other without a pause."""
    monkeypatch.setattr("medzoo.hub.network._PAUSES", (0.0, 0.0, 0.0))

    def make(model_id: str = "ddpm-test", *, private: bool = False) -> Published:
        published = publish(model_id, mirror=False)
        commit = hub_server.store.put(f"acme/{model_id}", published.files, private=private)
        text = published.registry.read_text()
        published.registry.write_text(f'{text}\nrepo = "acme/{model_id}"\nrevision = "{commit}"\n')
        return published

    return make


@pytest.fixture
def publish(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Published]:
    """Publish a small model: a mirror holds its files, MEDZOO_REGISTRY names it, MEDZOO_MIRROR does if asked."""

    def make(model_id: str = "ddpm-test", *, mirror: bool = True, extra: str = "") -> Published:
        root = tmp_path_factory.mktemp("published")
        files = {
            "README.md": f"---\nlicense: cc-by-4.0\n---\n# {model_id}\n\nMade for a test.\n".encode(),
            "config.json": b'{"plugin": "ddpm", "data": {"name": "phantom", "images": 12}}',
            "model.safetensors": model_id.encode() * 1000,
        }
        rows = []
        for name, data in files.items():
            path = root / "mirror" / model_id / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            rows.append(f'{{ name = "{name}", sha256 = "{hashlib.sha256(data).hexdigest()}", bytes = {len(data)} }}')
        registry = root / "registry.toml"
        registry.write_text(MODEL.format(id=model_id, files=",\n  ".join(rows), extra=extra))
        monkeypatch.setenv("MEDZOO_REGISTRY", str(registry))
        if mirror:
            monkeypatch.setenv("MEDZOO_MIRROR", str(root / "mirror"))
        return Published(model_id, registry, root / "mirror", files)

    return make


MODEL = """
[[model]]
id = "{id}"
plugin = "ddpm"
summary = "a model for a test"
modality = "simulated ultrasound"
dataset = "phantom"
classes = ["a", "b"]
size = 64
channels = 1
license = "CC-BY-4.0"
parameters = 3_100_000
files = [
  {files}
]
{extra}
"""
