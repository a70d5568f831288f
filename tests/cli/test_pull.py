import json
from pathlib import Path

from medzoo.hub import verify_folder
from medzoo.registry import load_registry


def test_a_pulled_models_folder_is_the_result(medzoo, publish):
    publish("ddpm-test")
    outcome = medzoo("pull", "ddpm-test")
    assert (outcome.code, outcome.err) == (0, "")
    verify_folder(Path(outcome.out.strip()), load_registry().model("ddpm-test"))


def test_a_model_is_pulled_from_a_folder(medzoo, publish):
    published = publish("ddpm-test", mirror=False)
    outcome = medzoo("pull", "ddpm-test", "--from", published.mirror, "--json")
    (pulled,) = json.loads(outcome.out)
    assert pulled["id"] == "ddpm-test"
    assert pulled["bytes"] == sum(len(data) for data in published.files.values())
    assert Path(pulled["folder"], "config.json").is_file()


def test_a_model_no_source_has_exits_4(medzoo, publish):
    publish("ddpm-test", mirror=False)
    outcome = medzoo("pull", "ddpm-test")
    assert (outcome.code, outcome.out) == (4, "")
    assert "medzoo pull ddpm-test --from DIR" in outcome.err


def test_a_flipped_byte_exits_4_and_leaves_nothing(medzoo, publish, user_folders):
    published = publish("ddpm-test")
    path = published.path("model.safetensors")
    path.write_bytes(path.read_bytes().replace(b"ddpm", b"eepm", 1))
    outcome = medzoo("pull", "ddpm-test")
    assert outcome.code == 4
    assert "is not what the registry names" in outcome.err
    assert not list(user_folders.rglob("*.safetensors*"))


def test_an_unknown_model_among_known_ones_pulls_nothing(medzoo, publish, user_folders):
    publish("ddpm-test")
    outcome = medzoo("pull", "ddpm-test", "ddpm-tset")
    assert outcome.code == 2
    assert "did you mean" in outcome.err
    assert not (user_folders / "cache").exists()


def test_a_generator_without_weights_has_nothing_to_pull(medzoo):
    outcome = medzoo("pull", "classic")
    assert outcome.code == 2
    assert "'classic' has nothing to pull" in outcome.err


def test_the_hub_is_said_to_be_out_of_reach(medzoo):
    assert medzoo("pull", "hf:org/name").code == 4
