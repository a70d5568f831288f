"""Our own registry is sound, and whatever can be wrong with another is said."""

import hashlib
from pathlib import Path

import pytest

from medzoo.hub.registry_check import check_registry
from medzoo.plugins.lookup import load_plugins
from medzoo.storage.paths import bundled_root

CARD = b"---\nlicense: mit\n---\n# A model\n"
ENTRY = {
    "id": '"own"',
    "plugin": '"ddpm"',
    "summary": '"a model for a test"',
    "modality": '"x-ray"',
    "dataset": '"phantom"',
    "classes": '["a", "b"]',
    "size": "64",
    "channels": "1",
    "license": '"mit"',
    "parameters": "12",
}
ASSET = """[[asset]]
id = "{id}"
summary = "a part"
license = "mit"
{place}
files = [{{ name = "part.pth", sha256 = "{zeros}", bytes = 1 }}]
"""


@pytest.fixture
def write(tmp_path):
    """Write a registry of one model, whose card lies beside it, and give what the check says of it."""

    def problems(*, card: bytes = CARD, leave_out: str = "", more: str = "", spoil: str = "", **values: str):
        contents = {"README.md": card, "config.json": b"{}", "model.safetensors": b"weights"}
        folder = tmp_path / "cards" / values.pop("folder", "own")
        folder.mkdir(parents=True)
        files = []
        for name, data in contents.items():
            (folder / name).write_bytes(b"other" if name == spoil else data)
            files.append(f'{{ name = "{name}", sha256 = "{hashlib.sha256(data).hexdigest()}", bytes = {len(data)} }}')
        lines = [f"{key} = {value}" for key, value in {**ENTRY, **values}.items() if key != leave_out]
        path = tmp_path / "registry.toml"
        path.write_text("[[model]]\n" + "\n".join(lines) + f"\nfiles = [{', '.join(files)}]\n" + more)
        _, found = check_registry([path], load_plugins())
        assert all(problem.file == path for problem in found)
        return [(problem.entry, problem.message) for problem in found]

    return problems


def test_check_registry_bundled():
    registry, problems = check_registry([], load_plugins())
    assert problems == []
    assert {entry.folder for entry in registry.entries} >= {card.name for card in (bundled_root() / "cards").glob("*/")}
    assets = {"inception-fid", "vgg16-imagenet", "sd-vae-ft-mse", "efficientnet-lite0-imagenet", "dinov2-vits14"}
    assert assets <= {entry.id for entry in registry.assets}


def test_check_registry_valid_entry(write):
    assert write() == []


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"size": '"64"'}, "size must be a whole number"),
        ({"licence": '"mit"'}, "unknown key 'licence'"),
        ({"leave_out": "plugin"}, "lacks plugin"),
        ({"version": "0"}, "version must be 1 or more"),
        ({"summary": '" "'}, "summary must not be empty"),
        ({"classes": '["a", "a"]'}, "classes must be a list of distinct names"),
        ({"channels": "2"}, "channels 1 or 3"),
        ({"plugin": '"ddqm"'}, "no installed plugin provides the generator 'ddqm'"),
        ({"plugin": '"classic"'}, "'classic' has no weights"),
        ({"kind": '"metric"'}, "kind must be generator or classifier"),
        ({"kind": '"classifier"'}, "no installed plugin provides the classifier 'ddpm'"),
        ({"repo": '"org/own"', "revision": '"main"'}, "revision must be a commit"),
        ({"revision": f'"{"a" * 40}"'}, "revision must be a commit of its repo"),
        ({"deprecated": '"worse"'}, "needs both a reason and a successor"),
        ({"deprecated": '"worse"', "successor": '"none"'}, "its successor 'none' is in no registry"),
        ({"deprecated": '"worse"', "successor": '"own"'}, "its successor 'own' is deprecated too"),
        ({"license": '"cc0-1.0"'}, "the license is cc0-1.0 in the entry, mit in its card"),
        ({"card": b"# A model\n"}, "the license is mit in the entry, none in its card"),
        ({"card": b"---\nlicense: [\n---\n"}, "cannot be read"),
        ({"spoil": "model.safetensors"}, "model.safetensors is not that of the entry"),
        ({"folder": "elsewhere"}, "it is in no mirror and no repo"),
        ({"default": "true"}, "'ddpm' has two default models"),
        ({"more": "[[model]]\n"}, "needs an id of at most 128 letters"),
        ({"more": '[[model]]\nid = "own"\n'}, "'own' is listed twice"),
        ({"more": "[[model\n"}, "is not TOML"),
        ({"more": "[[models]]\n"}, "unknown key 'models'"),
        ({"more": ASSET.format(id="own", place='url = "https://a.b/part.pth"', zeros="0" * 64)}, "both a model and an"),
        ({"more": ASSET.format(id="part", place="", zeros="0" * 64)}, "needs either a url or a repo"),
        ({"more": ASSET.format(id="part", place='url = "ftp://a.b/c"', zeros="0" * 64)}, "begins with https://"),
        ({"more": ASSET.format(id="part", place='repo = "a/b"', zeros="0" * 64)}, "with a commit of 40"),
        ({"more": ASSET.format(id="part", place='repo = "a/b"', zeros="0" * 63)}, "64 hexadecimal digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_registry_invalid_entry(write, values, what):
    problems = write(**values)
    assert [what in message for _, message in problems] == [True]


def test_check_registry_several_problems(write):
    problems = write(summary='""', channels="2", license='"cc0-1.0"', spoil="config.json")
    assert len(problems) == 4
    assert {entry for entry, _ in problems} == {"own"}


def test_check_registry_missing_file():
    _, (problem,) = check_registry([Path("/nowhere/registry.toml")], load_plugins())
    assert problem.message == "cannot read the registry /nowhere/registry.toml: No such file or directory"


def test_check_registry_missing_card_file(write, tmp_path):
    write()
    (tmp_path / "cards" / "own" / "README.md").unlink()
    _, (problem,) = check_registry([tmp_path / "registry.toml"], load_plugins())
    assert problem.message.endswith("README.md is missing")


def test_check_registry_older_version_on_the_hub(write):
    older = "\n".join(f"{key} = {value}" for key, value in ENTRY.items())
    files = ", ".join(
        f'{{ name = "{name}", sha256 = "{"0" * 64}", bytes = 1 }}'
        for name in ("README.md", "config.json", "model.safetensors")
    )
    more = f'[[model]]\n{older}\nversion = 1\nrepo = "org/own"\nrevision = "{"a" * 40}"\nfiles = [{files}]\n'
    assert write(version="2", folder="own@v2", more=more) == []


def test_registry_check_prints_problems(medzoo, write, tmp_path):
    write(channels="2")
    outcome = medzoo("registry", "check", tmp_path / "registry.toml")
    assert outcome.code == 2
    assert outcome.out.splitlines()[0].split() == ["file", "entry", "problem", "hint"]
    assert "channels 1 or 3" in outcome.out
    assert "error: the registry has 1 problem" in outcome.err


def test_registry_check_valid_file(medzoo, write, tmp_path):
    write()
    outcome = medzoo("registry", "check", tmp_path / "registry.toml")
    assert (outcome.code, outcome.out) == (0, "")
    assert "match their entries" in outcome.err
    assert medzoo("registry", "check", "--json").out.strip() == "[]"
