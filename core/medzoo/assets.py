"""Published weights by name, for plugins: the tensors of an asset, and the extractors that are built from them.

    from medzoo.assets import load_extractor

    loaded = load_extractor("efficientnet-lite0", device="cpu")
    features = loaded.extract(images)["features"]  # float32 (N, 1280) of uint8 images (N, 1 or 3, H, W)

A model asks for them when it is trained and not in `build`: a saved model brings its own weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medzoo.errors import HubError, PluginError
from medzoo.hub.registry import AssetEntry, ModelEntry, Registry, load_registry
from medzoo.hub.sources import AT_HAND, fetch_asset, locate
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.protocols import Extractor, PerceptualExtractor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LoadedExtractor:
    """An extractor with its weights on a device. `identity` changes whenever the features of the same images do.

    `trained_on` holds the fingerprints of the images that a classifier was trained on.
    """

    name: str
    extract: Extractor
    preprocessing: str
    weights: str
    identity: str
    device: str
    trained_on: frozenset[str] = frozenset()


def at_hand(asset: str) -> bool:
    """Return whether the files of the asset are on this machine. Raises: UnknownName."""
    return locate(load_registry().asset(asset))[0] in AT_HAND


def fetch_command(asset: str) -> str:
    """Return the command that brings an asset's files to this machine. Raises: UnknownName."""
    return load_registry().asset(asset).fetch_command


def read_asset(asset: str) -> dict[str, Tensor]:
    """Read the weights of an asset of one file, by name, on the CPU; they are fetched if they are not on this machine.

    Raises:
        UnknownName: no registry has it.
        HubError: no source has it; the hint is the command that fetches it.
        IntegrityError, ResourceError: the file is damaged, or cannot be read.
    """
    return _read(load_registry().asset(asset), source=None)


def load_extractor(
    name: str,
    *,
    device: str,
    plugins: Plugins | None = None,
    registry: Registry | None = None,
    source: str | None = None,
) -> LoadedExtractor:
    """Load the extractor `name` of a plugin with its weights, which have to be on this machine, onto `device`.

    `source` is the only place to take weights from, as in `medzoo.pull`.

    Raises:
        UnknownName: no plugin provides it.
        HubError: its weights are not on this machine; the hint is the command that fetches them.
        PluginError, IntegrityError, ResourceError: it is broken, or its weights are.
    """
    plugins = load_plugins() if plugins is None else plugins
    registry = load_registry(plugins=plugins) if registry is None else registry
    spec = plugins.extractor(name)
    rows = [registry.asset(asset) for asset in spec.assets]
    check_at_hand(name, rows)
    hashes = " ".join(file.sha256 for row in rows for file in row.files)
    extract = spec.build({row.id: _read(row, source=source) for row in rows}, device)
    if spec.perceptual and not isinstance(extract, PerceptualExtractor):
        raise PluginError(f"the extractor '{spec.name}' has no distance", f"run `medzoo plugin check {spec.name}`")
    return LoadedExtractor(
        name=spec.name,
        extract=extract,
        preprocessing=spec.preprocessing,
        weights=hashes,
        identity=f"{spec.name} {spec.version} {hashes}",
        device=device,
    )


def check_at_hand(name: str, rows: list[AssetEntry] | list[ModelEntry]) -> None:
    """Check that what `name` needs is on this machine. Raises: HubError with the command that fetches it."""
    for row in rows:
        if locate(row)[0] not in AT_HAND:
            raise HubError(f"'{name}' needs {row.name}, which is not on this machine", row.fetch_command)


def _read(entry: AssetEntry, *, source: str | None) -> dict[str, Tensor]:
    from medzoo.toolkit.nn.pretrained import read_weights

    path = fetch_asset(entry, source=source)
    return read_weights(path, sha256=entry.files[0].sha256, hint=entry.fetch_command)
