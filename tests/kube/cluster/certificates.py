"""Keys and certificates of one control plane, signed by one certificate authority."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FRONT_PROXY = "front-proxy-client"  # common name that aggregated servers trust to name users
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def write_pki(folder: Path, services: list[str], now: datetime.datetime) -> None:
    """Writes ca, tls (server; `services` are its further DNS names), proxy and service account keys into `folder`.

    Kueue's certificate controller keeps what it finds only if the authority names kueue-ca, its key is PKCS#1
    and everything is valid for more than 90 days.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    authority = _create_authority(authority_key, now)
    _write_certificate(folder, "ca", authority_key, authority)
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names += [x509.DNSName(name) for name in ("localhost", *services)]
    for file, common, alternatives, usage in (
        ("tls", services[0], names, ExtendedKeyUsageOID.SERVER_AUTH),
        ("proxy", FRONT_PROXY, [], ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate_builder(common, authority.subject, key, now)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        _write_certificate(folder, file, key, builder.sign(authority_key, hashes.SHA256()))
    _write_service_account_keys(folder)


def _create_authority(key: rsa.RSAPrivateKey, now: datetime.datetime) -> x509.Certificate:
    subject = _common_name("kueue-ca")
    return (
        _certificate_builder("kueue-ca", subject, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("kueue-ca")]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _certificate_builder(common: str, issuer: x509.Name, key: _Key, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(common))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )


def _common_name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write_certificate(folder: Path, name: str, key: _Key, certificate: x509.Certificate) -> None:
    _write_key(folder / f"{name}.key", key)
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: _Key) -> None:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _write_service_account_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(folder / "accounts.key", key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)
