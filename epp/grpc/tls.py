"""Server TLS: contexts from flags, self-signed certificates, and tls.crt and tls.key of a folder with live reload."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from watchfiles import awatch

from epp.clock import Clock
from epp.errors import ConfigError, Problem
from epp.tasks import Tasks

log = logging.getLogger("epp.grpc.tls")

CERTIFICATE_FILE, PRIVATE_KEY_FILE = "tls.crt", "tls.key"  # as in a Kubernetes secret of type kubernetes.io/tls
CERTIFICATE_ORGANIZATION = "Inference Ext"  # as in llm-d's self-signed certificate
CERTIFICATE_VALIDITY = datetime.timedelta(days=3650)
WATCH_STEP_MS = 200  # changes this close together are one: the two files are rarely replaced in the same instant
POLL_INTERVAL_MS = 60_000

# Values of --tls-min-version and --tls-cipher-suites are Kubernetes's and Go's names, as in llm-d.
_TLS_VERSIONS = {"VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}
_TLS13_SUITES = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
_OPENSSL_CIPHERS = {
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305": "CHACHA20-POLY1305",  # Go's older name of the next one
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
    "AES_128_CBC_SHA256": "AES128-SHA256",
}
_OPENSSL_KEY_EXCHANGES = {
    "TLS_ECDHE_RSA_WITH_": "ECDHE-RSA-",
    "TLS_ECDHE_ECDSA_WITH_": "ECDHE-ECDSA-",
    "TLS_RSA_WITH_": "",
}


class TlsFlags(Protocol):
    """The flags of the gRPC listener."""

    cert_path: str
    enable_cert_reload: bool
    tls_min_version: str
    tls_cipher_suites: list[str]


class MetricsTlsFlags(Protocol):
    """The flags of the metrics listener."""

    metrics_cert_dir: str
    metrics_client_ca_file: str


class ServerTlsContext(ssl.SSLContext):
    """A server's SSL context that keeps its certificate as PEM, for transports with their own TLS implementation."""

    certificate_chain: bytes = b""
    private_key: bytes = b""

    def set_certificate(self, certificate_chain: bytes, private_key: bytes) -> None:
        """Uses this certificate from the next handshake on. Raises ssl.SSLError and then keeps the old one."""
        with TemporaryDirectory(prefix="epp-tls-") as folder:
            chain_file, key_file = Path(folder, CERTIFICATE_FILE), Path(folder, PRIVATE_KEY_FILE)
            chain_file.write_bytes(certificate_chain)
            key_file.write_bytes(private_key)
            # Tried on a context of its own first: a failure would leave this one with the new chain and the old key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain_file, key_file, _empty_password)
            self.load_cert_chain(chain_file, key_file, _empty_password)
        self.certificate_chain, self.private_key = certificate_chain, private_key


def _empty_password() -> str:
    """Makes an encrypted key an error; without a callback OpenSSL would prompt on the terminal."""
    return ""


def create_server_context(flags: TlsFlags, tasks: Tasks, clock: Clock) -> ServerTlsContext:
    """The context of the gRPC listener. Raises ConfigError.

    Without --cert-path the certificate is self-signed; with --enable-cert-reload a task of `tasks` watches the folder.
    """
    context = create_tls_context(flags.tls_min_version, flags.tls_cipher_suites)
    if not flags.cert_path:
        context.set_certificate(*create_self_signed_certificate(clock))
        return context
    load_certificate(context, flags.cert_path)
    if flags.enable_cert_reload:
        tasks.supervise("certificates", lambda: watch_certificate(context, flags.cert_path))
    return context


def create_metrics_context(flags: MetricsTlsFlags) -> ssl.SSLContext | None:
    """The context of the metrics listener; None for cleartext. Raises ConfigError."""
    if not flags.metrics_cert_dir:
        return None
    context = create_tls_context(alpn="http/1.1")
    load_certificate(context, flags.metrics_cert_dir)
    if flags.metrics_client_ca_file:
        try:
            context.load_verify_locations(flags.metrics_client_ca_file)
        except (OSError, ssl.SSLError) as error:
            problem = f"cannot read PEM certificates from {flags.metrics_client_ca_file}: {error}"
            raise ConfigError([Problem("--metrics-client-ca-file", problem)]) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def create_tls_context(min_version: str = "", suites: Sequence[str] = (), alpn: str = "h2") -> ServerTlsContext:
    """A context without a certificate yet. Raises ConfigError that names every invalid flag."""
    problems: list[Problem] = []
    context = ServerTlsContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _TLS_VERSIONS.get(min_version, ssl.TLSVersion.TLSv1_2)  # HTTP/2's own (RFC 9113, 9.2)
    context.set_alpn_protocols([alpn])
    if min_version and min_version not in _TLS_VERSIONS:
        problems.append(
            Problem("--tls-min-version", f"unsupported version {min_version}; use one of {', '.join(_TLS_VERSIONS)}")
        )
    # OpenSSL configures TLS 1.3 suites separately; all of them are enabled by default.
    names = [name for name in suites if name not in _TLS13_SUITES]
    unknown = [name for name in names if openssl_cipher_name(name) is None]
    problems += [
        Problem("--tls-cipher-suites", f"unknown or insecure cipher suite {name}; use Go's names") for name in unknown
    ]
    if names and not unknown:
        try:
            context.set_ciphers(":".join(openssl_cipher_name(name) or "" for name in names))
        except ssl.SSLError:
            problems.append(Problem("--tls-cipher-suites", "OpenSSL on this machine supports none of these suites"))
    if problems:
        raise ConfigError(problems, "flags")
    return context


def openssl_cipher_name(suite: str) -> str | None:
    """OpenSSL's name of a TLS 1.2 cipher suite given by Go's name; None if it is unknown or insecure."""
    for prefix, key_exchange in _OPENSSL_KEY_EXCHANGES.items():
        if suite.startswith(prefix) and (cipher := _OPENSSL_CIPHERS.get(suite[len(prefix) :])):
            return key_exchange + cipher
    return None


def load_certificate(context: ServerTlsContext, folder: str) -> None:
    """Uses tls.crt and tls.key of `folder`. Raises ConfigError and then keeps the old certificate."""
    certificate_chain, private_key = read_certificate_files(folder)
    try:
        context.set_certificate(certificate_chain, private_key)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            problem = f"does not belong to {PRIVATE_KEY_FILE}"
        else:
            problem = f"or {PRIVATE_KEY_FILE} is not readable PEM ({error.reason or error})"
        raise ConfigError([Problem(str(Path(folder, CERTIFICATE_FILE)), problem)], "flags") from error


def read_certificate_files(folder: str) -> tuple[bytes, bytes]:
    """Contents of tls.crt and tls.key. Raises ConfigError."""
    contents = []
    for name in (CERTIFICATE_FILE, PRIVATE_KEY_FILE):
        path = Path(folder, name)
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            problem = f"{error.strerror}; the folder must contain {CERTIFICATE_FILE} and {PRIVATE_KEY_FILE} in PEM form"
            raise ConfigError([Problem(str(path), problem)], "flags") from error
    return contents[0], contents[1]


async def watch_certificate(context: ServerTlsContext, folder: str) -> None:
    """Reloads the certificate when its files change; an invalid one is logged, and the old one stays in use.

    The files are also read once a minute, for changes made before the watch began and for file systems without
    change events. Runs until cancelled.
    """
    tried = (context.certificate_chain, context.private_key)
    watch = awatch(
        folder,
        debounce=4 * WATCH_STEP_MS,
        step=WATCH_STEP_MS,
        recursive=False,
        rust_timeout=POLL_INTERVAL_MS,
        yield_on_timeout=True,
    )
    async for _ in watch:
        try:
            found = read_certificate_files(folder)
            if found == tried:
                continue
            tried = found
            load_certificate(context, folder)
        except ConfigError as error:
            log.error("certificate not reloaded, the old one stays in use: %s", error)
        else:
            log.info("certificate reloaded from %s", folder)


def create_self_signed_certificate(clock: Clock, names: Sequence[str] = ("localhost",)) -> tuple[bytes, bytes]:
    """Certificate and private key in PEM form: ECDSA P-256, valid for ten years, not meant to be verified."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, CERTIFICATE_ORGANIZATION)])
    # An hour back, for clients whose clocks are behind.
    start = datetime.datetime.fromtimestamp(clock.wall(), datetime.UTC) - datetime.timedelta(hours=1)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + CERTIFICATE_VALIDITY)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private_key
