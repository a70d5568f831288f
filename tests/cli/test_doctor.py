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


def test_doctor_checks_versions_devices_paths_and_plugins(doctor):
    findings = doctor()
    assert {"medzoo", "torch", "diffusers", "cpu", "threads", "cache", "here", "plugin ddpm"} <= set(findings)
    assert findings["torch"]["state"] == "ok"
    assert "bf16" in findings["cpu"]["detail"]


def test_doctor_one_line_per_finding(medzoo):
    lines = medzoo("doctor").out.splitlines()
    assert all(line.startswith(("ok   ", "warn ")) for line in lines)


def test_doctor_broken_plugin(doctor, install_plugin):
    install_plugin("foreign", "raise OSError('no')", distribution="foreign-zoo")
    finding = doctor()["plugin foreign"]
    assert finding["state"] == "warn"
    assert "OSError: no" in finding["detail"]
    assert "pip install --upgrade foreign-zoo" in finding["hint"]


def test_doctor_missing_model(doctor, publish):
    publish("ddpm-test", mirror=False)
    assert doctor()["model ddpm-test"]["hint"] == "medzoo pull ddpm-test --from DIR"


def test_doctor_damaged_model(doctor, publish):
    published = publish("ddpm-test")
    assert doctor()["model ddpm-test"] == {"name": "model ddpm-test", "state": "ok", "detail": "mirror", "hint": ""}
    path = published.path("model.safetensors")
    path.write_bytes(path.read_bytes().replace(b"ddpm", b"eepm", 1))
    finding = doctor()["model ddpm-test"]
    assert finding["state"] == "warn"
    assert "is corrupt: its sha256 is" in finding["detail"]


def test_doctor_invalid_registry(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "none.toml"))
    assert "none.toml" in doctor()["registry"]["detail"]


def test_doctor_too_many_threads(doctor, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    assert doctor()["threads"]["hint"].startswith("export OMP_NUM_THREADS=")


def test_doctor_full_disk(doctor, monkeypatch):
    monkeypatch.setattr("medzoo.cli.doctor._ENOUGH_SPACE", 10**18)
    assert doctor()["cache"]["hint"] == "free some space"


def test_doctor_unwritable_cache(doctor, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file" / "cache"))
    assert "MEDZOO_CACHE" in doctor()["cache"]["hint"]


def test_doctor_missing_library(doctor, monkeypatch):
    monkeypatch.setattr("medzoo.cli.doctor.library_versions", lambda: {"torch": None})
    assert doctor()["torch"] == {
        "name": "torch",
        "state": "warn",
        "detail": "not installed",
        "hint": "pip install torch",
    }
