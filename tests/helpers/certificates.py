"""A certificate of a test, made on the spot: a chain of two, and the signer's key."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any


def write_certificate(folder: Path, *, curve: str = "SECP256R1") -> tuple[Path, Path]:
    """Write chain.pem, the signer's certificate and that of the authority that issued it, and key.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test clinic")
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common), organization])

    def certify(common: str, key: Any, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name("Test authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=9))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(authority, hashes.SHA256())

    def usage(*, signs_images: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=not signs_images,
            crl_sign=not signs_images,
            encipher_only=False,
            decipher_only=False,
        )

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(getattr(ec, curve)())
    issuer = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    own = certify(
        "Test signer",
        key,
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(signs_images=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )
    root = certify(
        "Test authority",
        authority,
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage(signs_images=False), True),
        (issuer, False),
    )
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(own.public_bytes(pem) + root.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "chain.pem", folder / "key.pem"
