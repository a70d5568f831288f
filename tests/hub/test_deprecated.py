"""Using a deprecated model works, and names the model to use instead once."""


def test_sample_deprecated_model_warns_once(medzoo, monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[[model]]\nid = "dcgan-busi"\ndeprecated = "too blurred"\nsuccessor = "ddpm-busi"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", str(own))
    outcome = medzoo("sample", "dcgan-busi", "--label", "benign", "--n", "2", "--out", tmp_path / "drawn")
    assert outcome.code == 0
    assert outcome.err.count("dcgan-busi is deprecated: too blurred; use ddpm-busi: medzoo show ddpm-busi") == 1
    assert len(list((tmp_path / "drawn" / "benign").iterdir())) == 2
