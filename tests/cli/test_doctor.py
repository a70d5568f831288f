import json

import pytest


@pytest.fixture
def doctor(medzoo):
    """The findings by name."""

    def call():
        outcome = medzoo("doctor", "--json")
        assert outcome.code == 0
        return {finding["name"]: finding for finding in json.loads(outcome.out)}

    return call


def test_versions_devices_places_and_plugins_are_examined(doctor):
    findings = doctor()
    assert {"medzoo", "torch", "diffusers", "cpu", "threads", "cache", "here", "plugin ddpm"} <= set(findings)
    assert findings["torch"]["state"] == "ok"
    assert "bf16" in findings["cpu"]["detail"]


def test_the_report_is_a_line_a_finding(medzoo):
    lines = medzoo("doctor").out.splitlines()
    assert all(line.startswith(("ok   ", "warn ")) for line in lines)


def test_a_broken_plugin_is_a_warning_with_its_hint(doctor, install_plugin):
    install_plugin("foreign", "raise OSError('no')", distribution="foreign-zoo")
    finding = doctor()["plugin foreign"]
    assert finding["state"] == "warn"
    assert "OSError: no" in finding["detail"]
    assert "pip install --upgrade foreign-zoo" in finding["hint"]


def test_a_missing_model_is_a_warning(doctor, publish):
    publish("ddpm-test", mirror=False)
    assert doctor()["model ddpm-test"]["hint"] == "medzoo pull ddpm-test --from DIR"


def test_a_damaged_model_is_a_warning(doctor, publish):
    published = publish("ddpm-test")
    assert doctor()["model ddpm-test"] == {"name": "model ddpm-test", "state": "ok", "detail": "mirror", "hint": ""}
    path = published.path("model.safetensors")
    path.write_bytes(path.read_bytes().replace(b"ddpm", b"eepm", 1))
    finding = doctor()["model ddpm-test"]
    assert finding["state"] == "warn"
    assert "is corrupt: its sha256 is" in finding["detail"]


def test_a_wrong_registry_is_a_warning(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "none.toml"))
    assert "none.toml" in doctor()["registry"]["detail"]


def test_too_many_threads_are_a_warning(doctor, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    assert doctor()["threads"]["hint"].startswith("export OMP_NUM_THREADS=")


def test_a_full_disk_is_a_warning(doctor, monkeypatch):
    monkeypatch.setattr("medzoo.cli.doctor._ENOUGH_SPACE", 10**18)
    assert doctor()["cache"]["hint"] == "free some space"


def test_a_cache_that_cannot_be_written_is_a_warning(doctor, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file" / "cache"))
    assert "MEDZOO_CACHE" in doctor()["cache"]["hint"]


def test_a_library_that_is_absent_is_a_warning(doctor, monkeypatch):
    monkeypatch.setattr("medzoo.cli.doctor.library_versions", lambda: {"torch": None})
    assert doctor()["torch"] == {
        "name": "torch",
        "state": "warn",
        "detail": "not installed",
        "hint": "pip install torch",
    }
