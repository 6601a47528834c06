"""Server certificates and TLS flags."""

from __future__ import annotations

import argparse
import ssl

import pytest
from cryptography import x509

from epp.clock import ManualClock
from epp.errors import ConfigError
from epp.grpc import tls
from epp.tasks import Tasks


def flags(**changed):
    plain = {"cert_path": "", "enable_cert_reload": False, "tls_min_version": "", "tls_cipher_suites": []}
    return argparse.Namespace(**{**plain, **changed})


def write_certificate(folder, chain, key):
    (folder / tls.CERTIFICATE_FILE).write_bytes(chain)
    (folder / tls.PRIVATE_KEY_FILE).write_bytes(key)


def test_without_a_folder_the_certificate_is_self_signed():
    context = tls.create_server_context(flags(), Tasks("test"), ManualClock(epoch=1_700_000_000.0))
    certificate = x509.load_pem_x509_certificate(context.certificate_chain)
    assert certificate.subject.rfc4514_string() == "O=Inference Ext"
    assert certificate.not_valid_before_utc.timestamp() == 1_700_000_000 - 3600
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3650
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_certificate_of_a_folder_is_used(tmp_path):
    chain, key = tls.create_self_signed_certificate(ManualClock())
    write_certificate(tmp_path, chain, key)
    context = tls.create_server_context(flags(cert_path=str(tmp_path)), Tasks("test"), ManualClock())
    assert (context.certificate_chain, context.private_key) == (chain, key)


def test_a_folder_without_a_certificate_is_an_error(tmp_path):
    with pytest.raises(
        ConfigError, match=r"tls\.crt: No such file or directory; the folder must contain tls\.crt and tls\.key"
    ):
        tls.create_server_context(flags(cert_path=str(tmp_path)), Tasks("test"), ManualClock())


def test_a_key_of_another_certificate_is_an_error(tmp_path):
    chain, _ = tls.create_self_signed_certificate(ManualClock())
    _, key = tls.create_self_signed_certificate(ManualClock())
    write_certificate(tmp_path, chain, key)
    with pytest.raises(ConfigError, match=r"tls\.crt: does not belong to tls\.key"):
        tls.create_server_context(flags(cert_path=str(tmp_path)), Tasks("test"), ManualClock())


def test_files_that_are_not_pem_are_an_error(tmp_path):
    write_certificate(tmp_path, b"not PEM", b"neither")
    with pytest.raises(ConfigError, match=r"tls\.crt: or tls\.key is not readable PEM"):
        tls.create_server_context(flags(cert_path=str(tmp_path)), Tasks("test"), ManualClock())


def test_an_invalid_replacement_keeps_the_old_certificate():
    context = tls.create_tls_context()
    chain, key = tls.create_self_signed_certificate(ManualClock())
    context.set_certificate(chain, key)
    with pytest.raises(ssl.SSLError):
        context.set_certificate(tls.create_self_signed_certificate(ManualClock())[0], key)
    assert (context.certificate_chain, context.private_key) == (chain, key)


def test_minimum_version_and_cipher_suites():
    context = tls.create_tls_context(
        "VersionTLS12", ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]
    )
    offered = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert offered == {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}
    assert tls.create_tls_context("VersionTLS13", ["TLS_AES_128_GCM_SHA256"]).minimum_version is ssl.TLSVersion.TLSv1_3


def test_every_invalid_flag_is_named():
    with pytest.raises(ConfigError) as caught:
        tls.create_tls_context("VersionTLS10", ["TLS_RSA_WITH_RC4_128_SHA", "ECDHE-RSA-AES128-SHA"])
    assert [problem.path for problem in caught.value.problems] == [
        "--tls-min-version",
        "--tls-cipher-suites",
        "--tls-cipher-suites",
    ]


@pytest.mark.parametrize(
    ("go", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"),
        ("TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ],
)
def test_openssl_names_of_cipher_suites(go, openssl):
    assert tls.openssl_cipher_name(go) == openssl
