"""C2PA manifests ("content credentials"): sign the PNGs that are written, and check the manifests of files."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.marks import URI, Mark, leading_term
from medzoo.errors import ConfigError

_INSTALL = "pip install 'medzoo[c2pa]'"
_HINT = "give a certificate chain in PEM, the signer's first, and its unencrypted private key: --c2pa chain.pem,key.pem"
# Manifests that lie on servers are not asked for.
_READING = {"verify": {"remote_manifest_fetch": False}}
# Without a thumbnail, which would make a file ten times as large.
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a file's active manifest says: the IPTC's term or "", who signed it, and what its signature is worth.

    `signature` is "valid" for an intact file signed by a certificate on a trust list, "valid, signer not on a trust
    list", or "not valid": the file was changed.
    """

    source_type: str
    signer: str
    signature: str


class ManifestSigner:
    """Sign PNGs with the certificates in a PEM file, the signer's first, and the private key in another.

    Signatures and identifiers of manifests are random, so the same image has other bytes each time it is signed; its
    pixels are the same. No time is stated, and no server is asked for one.

    Raises: ConfigError without c2pa-python, or if the files cannot sign an image.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._c2pa = _import()
        chain, private = (_read(path) for path in (certificate, key))
        self.fingerprint = hashlib.sha256(chain).hexdigest()
        # Objects of c2pa-python are not shared between threads.
        self._lock = threading.Lock()
        try:
            info = self._c2pa.C2paSignerInfo(
                alg=_algorithm(private, key), sign_cert=chain, private_key=private, ta_url=None
            )
            self._signer = self._c2pa.Signer.from_info(info)
            self._context = self._c2pa.Context.from_dict(_SETTINGS)
        except self._c2pa.C2paError as error:
            raise ConfigError(f"--c2pa cannot use {certificate} and {key}: {_reason(error)}", _HINT) from None
        self._names = f"{certificate} and {key}"

    def sign(self, png: bytes, mark: Mark) -> bytes:
        """Return a PNG's bytes with a manifest that says what made it. Raises: ConfigError if signing fails."""
        manifest = {
            "claim_generator_info": [{"name": "medzoo", "version": __version__}],
            "format": "image/png",
            "assertions": [
                {
                    "label": "c2pa.actions",
                    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": URI + mark.source_type}]},
                }
            ],
        }
        signed = io.BytesIO()
        with self._lock:
            try:
                builder = self._c2pa.Builder(manifest, context=self._context)
                builder.sign(self._signer, "image/png", io.BytesIO(png), signed)
            except self._c2pa.C2paError as error:
                raise ConfigError(f"--c2pa cannot sign with {self._names}: {_reason(error)}", _HINT) from None
        return signed.getvalue()


def _import() -> Any:
    """Import c2pa-python. Raises: ConfigError if it is not installed."""
    try:
        import c2pa
    except ImportError:
        raise ConfigError("signing images needs c2pa-python", _INSTALL) from None
    return c2pa


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--c2pa cannot read {path}: {(error.strerror or '').lower()}", _HINT) from None


def _algorithm(private: bytes, path: Path) -> bytes:
    """Return the C2PA's name of the algorithm of a private key. Raises: ConfigError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the errors may quote the file
        raise ConfigError(f"--c2pa: {path} is not an unencrypted private key in PEM", _HINT) from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384, 521):
        return {256: b"es256", 384: b"es384", 521: b"es512"}[key.curve.key_size]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    raise ConfigError(f"--c2pa: {path} is a key of a kind that C2PA does not use", "use EC P-256, Ed25519 or RSA")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read_manifest(path: Path) -> Manifest | None:
    """Return what the C2PA manifest of a file says; None where there is none, or c2pa-python is not installed."""
    try:
        import c2pa
    except ImportError:
        return None
    try:
        with c2pa.Reader(path, context=c2pa.Context.from_dict(_READING)) as reader:
            found = json.loads(reader.json())
    except (c2pa.C2paError, OSError, ValueError):
        return None
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    actions = [
        action
        for assertion in active.get("assertions", ())
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", ())
    ]
    terms = [str(action.get("digitalSourceType", "")).rpartition("/")[2] for action in actions]
    signed = active.get("signature_info", {})
    states = {"Trusted": "valid", "Valid": "valid, signer not on a trust list"}
    return Manifest(
        source_type=leading_term(terms),
        signer=", ".join(filter(None, [signed.get("common_name"), signed.get("issuer")])),
        signature=states.get(str(found.get("validation_state")), "not valid"),
    )
