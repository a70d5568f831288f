"""What may be published, and what a push does to the Hub and to the registry."""

from __future__ import annotations

import json
import shutil
import socket
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_card
from helpers.hub_server import HubServer
from helpers.tiny_card import ABOUT, note
from safetensors.torch import load_file, save_file

from medzoo.data.images import decode, write_image
from medzoo.data.phantom import CLASSES, phantom_dataset
from medzoo.errors import ConfigError, DataError, HubError
from medzoo.hub.front_matter import GENERATION, complete_card, parse_card
from medzoo.hub.registry import load_registry
from medzoo.hub.registry_file import entry_toml, update_registry
from medzoo.models.folder import FINGERPRINTS
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing import upload as hub_upload
from medzoo.publishing.checks import RECORD
from medzoo.publishing.push import Package, build_package, publish
from medzoo.specs import ImageSpec
from medzoo.storage.files import sha256_file

REPO = "acme/tiny-udder"
FAILED = {"verdict": "failed", "metric": "nearest-train@pixels", "n_real": 40, "n_fake": 200}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_card.make_run(tmp_path_factory.mktemp("push") / "run")


@pytest.fixture(scope="module")
def whole(run: Path) -> Path:
    return tiny_card.make_card(run, run.parent / "card")


@pytest.fixture
def card(whole: Path, tmp_path: Path) -> Path:
    """A card folder that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "card"))


def pack(folder: Path, **request: Any) -> Package:
    plugins = load_plugins()
    asked = {"repo": REPO, "about": ABOUT, **request}
    return build_package(str(folder), registry=load_registry(plugins=plugins), plugins=plugins, **asked)


def push(folder: Path, *, create: bool = True, private: bool = False, force: bool = False, **request: Any) -> Package:
    return publish(pack(folder, **request), create=create, private=private, force=force)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1))


def reword(card: Path, old: str, new: str) -> None:
    edit(card / "README.md", old, new)


def rewrite_weights(card: Path, *, metadata: dict[str, str], extra: dict[str, torch.Tensor] | None = None) -> None:
    """The weights again, with something more in the file; config.json names the new hash."""
    before = sha256_file(card / "model.safetensors")
    tensors = load_file(card / "model.safetensors")
    save_file({**tensors, **(extra or {})}, card / "model.safetensors", metadata=metadata)
    edit(card / "config.json", before, sha256_file(card / "model.safetensors"))


def change_config(card: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((card / "config.json").read_text())
    change(values)
    (card / "config.json").write_text(json.dumps(values))


def put_training_image(card: Path) -> None:
    """One of the samples, the third of the second class, is a training image now."""
    data = phantom_dataset(counts=dict.fromkeys(CLASSES, 2), size=32, seed=0)
    image = data.view(ImageSpec(size=16, channels=1, classes=data.classes), crop="none")[0]
    sheet = decode(card / "samples.png").copy()
    sheet[102:198, -980:-884] = np.kron(image[0], np.ones((6, 6), np.uint8))[..., None]
    write_image(card / "samples.png", sheet.transpose(2, 0, 1))


def hide_behind_the_picture(card: Path) -> None:
    with (card / "samples.png").open("ab") as file:
        file.write(b"another picture")


def link_weights(card: Path) -> None:
    (card / "model.safetensors").rename(card.parent / "elsewhere")
    (card / "model.safetensors").symlink_to(card.parent / "elsewhere")


RESULT = """model-index:
- name: tiny-udder
  results:
  - task: {type: unconditional-image-generation}
    dataset: {name: phantom, type: phantom}
    metrics:
    - {type: fid, value: 3.2}
tags:"""

SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no license": (lambda card: reword(card, "license: apache-2.0\n", ""), "has no license"),
    "an empty license": (lambda card: reword(card, "license: apache-2.0", "license: ''"), "has no license"),
    "no front matter": (lambda card: reword(card, "---\n", ""), "has no license"),
    "bad front matter": (lambda card: reword(card, "license:", "license: ["), "is not valid YAML"),
    "another library": (
        lambda card: reword(card, "library_name: medzoo", "library_name: x"),
        "library_name is not medzoo",
    ),
    "no limits": (lambda card: reword(card, "## Limits", "## Other"), "no section 'Limits'"),
    "empty limits": (lambda card: reword(card, "- Everything.", ""), "no section 'Limits'"),
    "no disclaimer": (lambda card: reword(card, "not for diagnosis", "for diagnosis"), "disclaimer is missing"),
    "a number of nobody": (lambda card: reword(card, "Tests.", "| FID | 3.2 |"), r"'\| FID \| 3.2 \|', which no run"),
    "an indented one": (lambda card: reword(card, "Tests.", "  | FID | 3.2 |"), r"'\| FID \| 3.2 \|', which no"),
    "a changed number": (lambda card: reword(card, "| normal | 2 |", "| normal | 200 |"), r"normal \| 200"),
    "a result of nobody": (lambda card: reword(card, "tags:", RESULT), "model-index states fid 3.2, which no run"),
    "a pickle": (lambda card: (card / "model.pkl").write_bytes(b"x"), "contains model.pkl"),
    "a folder": (lambda card: (card / "images").mkdir(), "contains images"),
    "a path": (lambda card: reword(card, "udder --out", "/home/ann/udder --out"), "contains '/home/ann/udder'"),
    "a folder here": (lambda card: reword(card, "udder --out", "/tmp --out"), "contains '/tmp'"),
    "a drive": (
        lambda card: change_config(card, lambda values: values["data"].update(name="C:\\ann")),
        r"contains 'C:\\",
    ),
    "a picture in text": (
        lambda card: reword(card, "Tests.", "![x](data:image/png;base64,AA)"),
        "embedded image",
    ),
    "metadata": (lambda card: rewrite_weights(card, metadata={"format": "pt", "note": "x"}), "contains metadata"),
    "a tensor": (
        lambda card: rewrite_weights(card, metadata={"format": "pt"}, extra={"images": torch.zeros(9)}),
        "cannot load .*model.safetensors",
    ),
    "other weights": (lambda card: (card / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors is damaged"),
    "linked weights": (link_weights, "model.safetensors is missing or a link"),
    "no samples": (lambda card: (card / "samples.png").unlink(), "samples.png is missing"),
    "no counts": (lambda card: change_config(card, lambda values: values["data"].pop("counts")), "of some class"),
    "fingerprints": (
        lambda card: change_config(card, lambda values: values["data"].update(images=["0" * 16])),
        "config.json lists fingerprints of the training images",
    ),
    "a training image": (put_training_image, "samples.png was not sampled from these weights"),
    "something hidden": (hide_behind_the_picture, "samples.png contains more than one image"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_publish_problems_send_nothing(card: Path, hub_server: HubServer, name: str) -> None:
    spoil, message = SPOILED[name]
    spoil(card)
    with pytest.raises(DataError, match=message):
        push(card)
    assert hub_server.asked() == []


def test_build_package_lists_all_problems_with_hints(card: Path) -> None:
    reword(card, "license: apache-2.0\n", "")
    (card / "model.pkl").write_bytes(b"x")
    put_training_image(card)
    with pytest.raises(DataError) as caught:
        pack(card)
    lines = caught.value.message.splitlines()[1:]
    assert len(lines) == 3
    assert all(line.startswith("  - ") and ": " in line for line in lines)


def test_find_local_identifiers_user_and_host(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7.clinic.example")
    monkeypatch.setenv("LOGNAME", "anna.smith")
    reword(card, "Tests.", "Trained on ward7 by anna.smith.")
    with pytest.raises(DataError, match=r"contains 'anna.smith'") as caught:
        pack(card)
    assert "contains 'ward7'" in caught.value.message


def test_find_local_identifiers_ignores_prose_and_urls(card: Path) -> None:
    reword(card, "Tests.", "Tests and/or demos at 3/4 scale, see https://example.org/a/b and ./docs/x, ~5 images /s.")
    assert pack(card).files["README.md"] == (card / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("classes = [", 'classes = ["extra", ', "classes is"), ("size = 16", "size = 32", "size is 16"),
     ('license = "apache-2.0"', 'license = "mit"', r"the license is apache-2\.0, but mit in the registry entry")],
)  # fmt: skip
def test_build_package_card_differs_from_entry(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    text = entry_toml(pack(card).entry)
    assert old in text
    (tmp_path / "registry.toml").write_text(text.replace(old, new))
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "registry.toml"))
    with pytest.raises(DataError, match=message):
        pack(card, about=None)


def test_build_package_license_differs_from_about(card: Path) -> None:
    with pytest.raises(DataError, match=r"the license is apache-2\.0, but mit in the registry entry"):
        pack(card, about=replace(ABOUT, license="mit"))


def test_build_package_folder_with_overrides(card: Path) -> None:
    with pytest.raises(ConfigError, match="--set"):
        pack(card, settings={"sampling.guidance_scale": 3.0})


def test_build_package_failed_memorization_check(card: Path) -> None:
    note(card, copy_check=FAILED)
    with pytest.raises(DataError, match=r"failed the memorization check.*nearest-train@pixels.*--accept-memorization"):
        pack(card)
    text = pack(card, accept_memorization=True).files["README.md"].decode()
    assert text.index("## Memorization check") < text.index("## Intended use")
    assert "failed its memorization check and was published all the same" in text


def test_build_package_passed_memorization_check(card: Path) -> None:
    note(card, copy_check={**FAILED, "verdict": "passed"})
    assert b"Memorization check" not in pack(card).files["README.md"]


@pytest.mark.parametrize("record", [{"verdict": "maybe"}, {"metric": "nearest"}, {**FAILED, "n_real": "many"}])
def test_build_package_invalid_memorization_check(card: Path, record: Any) -> None:
    note(card, copy_check=record)
    with pytest.raises(DataError, match="the record of the memorization check has no usable"):
        pack(card, accept_memorization=True)


def test_complete_card_model_index() -> None:
    notes = {"reconstruction": {"psnr_db": 31.5, "images": 64, "of": "training images"}, "latents": {"limit": 2.0}}
    text = complete_card(
        "---\nlicense: mit\n---\n# X\n", GENERATION, model="x", plugin="ldm", dataset="busi", notes=notes
    )
    (result,) = parse_card(text).data.eval_results
    assert (result.metric_type, result.metric_value) == ("psnr_db", 31.5)
    assert result.metric_name == "reconstruction psnr_db, 64 training images"
    assert complete_card(text, GENERATION, model="x", plugin="ldm", dataset="busi", notes=notes) == text


def test_complete_card_adds_no_license() -> None:
    text = complete_card("---\ntags: [x]\n---\n# X\n", GENERATION, model="x", plugin="ldm", dataset="busi", notes={})
    assert parse_card(text).data.get("license") is None
    assert parse_card(text).data.get("tags")[0] == "x"
    assert "model-index" not in text


def test_publish_is_one_commit(card: Path, hub_server: HubServer) -> None:
    done = push(card, version=1)
    repo = hub_server.store.repos[REPO]
    assert len(repo.commits) == 2  # the Hub's own first one, and ours
    files = {name: blob.data for name, blob in repo.commits[done.commit].files.items() if name[0] != "."}
    local = {RECORD, FINGERPRINTS}
    assert files == {path.name: path.read_bytes() for path in card.iterdir() if path.name not in local}
    assert repo.tags == {"v1": done.commit}
    (row,) = tomllib.loads(entry_toml(done.entry))["model"]
    assert (row["repo"], row["revision"]) == (REPO, done.commit)
    assert {file["name"]: file["sha256"] for file in row["files"]} == {name: sha256_file(card / name) for name in files}


def test_publish_again_makes_no_commit(card: Path, hub_server: HubServer) -> None:
    first, second = push(card, version=1), push(card, version=1, create=False)
    assert (second.sent, second.commit) == ((), first.commit)
    assert second.entry == first.entry
    assert len(hub_server.asked("POST .*/commit/")) == 1


def test_publish_run_writes_card(run: Path, hub_server: HubServer) -> None:
    first = push(run)
    assert sorted(first.sent) == ["README.md", "config.json", "model.safetensors", "samples.png"]
    assert push(run).sent == ()
    shutil.rmtree(run / "card")


def test_build_package_run_without_about(run: Path) -> None:
    with pytest.raises(ConfigError, match="does not know its license"):
        pack(run, about=None)


def test_build_package_folder_without_entry_or_about(card: Path) -> None:
    with pytest.raises(ConfigError, match="'tiny-udder' has no registry entry"):
        pack(card, about=None)


def test_build_package_other_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a finished training run nor a card folder"):
        pack(tmp_path)


def test_build_package_wrong_version() -> None:
    with pytest.raises(ConfigError, match="'ddpm-udder' is version 1"):
        pack(Path("ddpm-udder"), version=2)


def test_build_package_repo(card: Path) -> None:
    assert pack(card, repo="", org="lab").repo == "lab/tiny-udder"
    assert pack(card, repo="", about=replace(ABOUT, repo="acme/own")).repo == "acme/own"
    with pytest.raises(ConfigError, match="--repo ORG/NAME, or --org ORG"):
        pack(card, repo="")


def test_publish_own_change(card: Path, hub_server: HubServer) -> None:
    push(card)
    reword(card, "- Everything.", "- Everything, and more.")
    done = push(card)
    assert done.sent == ("README.md",)
    assert b"and more" in hub_server.store.repos[REPO].commits[done.commit].files["README.md"].data


def test_publish_changed_card_needs_force(card: Path, hub_server: HubServer) -> None:
    first = push(card)
    there = {name: blob.data for name, blob in hub_server.store.repos[REPO].commits[first.commit].files.items()}
    newer = hub_server.store.put(REPO, {**there, "README.md": there["README.md"] + b"\nA correction.\n"})
    reword(card, "- Everything.", "- Everything, and more.")
    with pytest.raises(HubError, match=f"commit {newer}.*--force"):
        push(card)
    assert hub_server.store.repos[REPO].branches["main"] == newer
    assert push(card, force=True).sent == ("README.md",)


def test_publish_foreign_card(card: Path, hub_server: HubServer) -> None:
    hub_server.store.put(REPO, {"README.md": b"---\nlicense: mit\n---\n# Other\n"})
    with pytest.raises(HubError, match=r"README.md of acme/tiny-udder"):
        push(card)


def test_publish_over_commit_of_entry(
    card: Path, hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_registry(tmp_path / "registry.toml", push(card).entry)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "registry.toml"))
    (card / RECORD).unlink()
    reword(card, "- Everything.", "- Everything, and more.")
    assert push(card, repo="", about=None).sent == ("README.md",)


def test_publish_never_moves_tag(card: Path, hub_server: HubServer) -> None:
    first = push(card, version=1)
    reword(card, "- Everything.", "- Everything, and more.")
    with pytest.raises(HubError, match="already has the tag v1"):
        push(card, version=1)
    second = push(card, version=2)
    assert hub_server.store.repos[REPO].tags == {"v1": first.commit, "v2": second.commit}
    assert second.entry["version"] == 2


def test_commit_refuses_newer_commit(card: Path, hub_server: HubServer) -> None:
    push(card)
    repository = hub_upload.Repository(REPO)
    seen = repository.read()
    assert seen is not None
    hub_server.store.put(REPO, {"README.md": b"new"})
    with pytest.raises(HubError, match="newer commit"):
        repository.commit({"config.json": b"{}"}, onto=seen, message="x")


def test_publish_again_after_lost_response(card: Path, hub_server: HubServer) -> None:
    hub_server.fail("POST .*/commit/", lost=True)
    with pytest.raises(HubError, match=r"connection to the Hub was lost.*push again"):
        push(card)
    again = push(card)
    assert again.sent == ()
    assert len(hub_server.store.repos[REPO].commits) == 2
    assert push(card).commit == again.commit


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"pattern": "POST .*/commit/", "status": 500}, "the Hub has a problem.*push again later"),
        ({"pattern": "POST .*/commit/", "status": 503}, "the Hub has a problem"),
        ({"pattern": "POST .*/commit/", "status": 429, "headers": {"Retry-After": "7"}}, "push again in 7 seconds"),
        ({"pattern": "POST .*/commit/", "status": 412}, "newer commit"),
        ({"pattern": "PUT /upload/", "status": 403}, "cannot write"),
        ({"pattern": "GET /api/models/", "status": 500, "times": 9}, "the Hub has a problem"),
        ({"pattern": "POST /api/validate-yaml", "status": 500}, "unexpected response from the Hub"),
    ],
)
def test_publish_hub_errors(
    card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    broken = hub_server.fail(**fault)
    with pytest.raises(HubError, match=message):
        push(card)
    broken.times = 0
    assert push(card).sent
    assert len(hub_server.store.repos[REPO].commits) == 2


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_gone", "token is invalid or has expired"), ("hf_read", "cannot write to acme/tiny-udder")],
)
def test_publish_refused_token_is_never_shown(
    card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as caught:
        push(card)
    assert token not in str(caught.value)
    assert "HF_TOKEN" in caught.value.hint


def test_publish_hides_token_in_server_message(card: Path, hub_server: HubServer) -> None:
    hub_server.fail("POST .*/commit/", status=500, headers={"X-Error-Message": "bad hf_write"})
    with pytest.raises(HubError, match=r"bad \*\*\*"):
        push(card)


def test_publish_without_token(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"uploading requires a token.*hf auth login"):
        push(card)
    assert hub_server.asked() == []


def test_publish_create(card: Path, hub_server: HubServer) -> None:
    with pytest.raises(HubError, match="--create"):
        push(card, create=False)
    assert REPO not in hub_server.store.repos
    push(card, private=True)
    assert hub_server.store.repos[REPO].private


def test_publish_private_to_public_repository(card: Path, hub_server: HubServer) -> None:
    hub_server.store.put(REPO, {})
    with pytest.raises(HubError, match="exists and is public"):
        push(card, private=True)


def test_publish_taken_name(card: Path, hub_server: HubServer) -> None:
    hub_server.store.put(REPO, {})
    hub_server.fail(f"GET /api/models/{REPO}$", status=404, headers={"X-Error-Code": "RepoNotFound"})
    with pytest.raises(HubError, match=r"is taken.*--repo ORG/NAME"):
        push(card)


def test_publish_endpoint(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert push(card).sent
    assert hub_server.asked("POST .*/commit/")


def test_publish_hub_down(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"connection to the Hub was lost.*push again"):
        push(card)


def test_publish_proxy(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub_server.url)
    monkeypatch.setattr(hub_server, "url", "http://hub.example")  # what its answers call it
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert push(card).sent
    assert REPO in hub_server.store.repos


def test_publish_offline(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push(card)


def test_publish_invalid_name(card: Path, hub_server: HubServer) -> None:
    with pytest.raises(HubError, match=r"not a valid repository.*ORG/NAME"):
        push(card, repo="acme/a/b")


def test_publish_without_xet(card: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    with pytest.raises(HubError, match="HF_HUB_DISABLE_XET=1"):
        push(card)


def test_update_registry_between_others(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    rows = [{"id": name, "classes": ["a"], "files": []} for name in ("first", "own", "last")]
    path.write_text("# Above.\n\n" + "\n\n# Of it.\n".join(entry_toml(row).strip() for row in rows) + "\n# Below.\n")
    before = path.read_text()
    update_registry(path, {**rows[1], "repo": "acme/own"})
    assert path.read_text() == before.replace(
        'id = "own"\nclasses = ["a"]', 'id = "own"\nclasses = ["a"]\nrepo = "acme/own"'
    )
    update_registry(path, {**rows[1], "version": 2})
    assert [row.get("version") for row in tomllib.loads(path.read_text())["model"]] == [None, None, None, 2]
    assert path.read_text().startswith("# Above.")


def test_update_registry_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[[model]\n")
    with pytest.raises(ConfigError, match="is not a registry"):
        update_registry(tmp_path / "x.toml", {"id": "x", "files": []})
    assert (tmp_path / "x.toml").read_text() == "[[model]\n"


def test_push_leaves_fingerprints_out(card: Path, hub_server: HubServer) -> None:
    known = json.loads((card / "fingerprints.json").read_text())["images"]
    assert known
    package = pack(card)
    assert "fingerprints.json" not in package.files
    assert not any(digest.encode() in data for digest in known for data in package.files.values())
    assert "fingerprints.json" not in {file["name"] for file in package.entry["files"]}


def test_push_publishes_fingerprints_on_demand(card: Path, hub_server: HubServer, logged: list[str]) -> None:
    package = pack(card, publish_fingerprints=True)
    assert package.files["fingerprints.json"] == (card / "fingerprints.json").read_bytes()
    assert "fingerprints.json" in {file["name"] for file in package.entry["files"]}
    assert any("anybody who has an image can look up whether it was trained on" in line for line in logged)
