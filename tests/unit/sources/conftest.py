import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from epp.api import Endpoint


@pytest.fixture(scope="session")
def capture() -> bytes:
    """The page of a vLLM under load: 16 running, 24 waiting, three LoRA combinations."""
    return (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_bytes()


@pytest.fixture
def labelled():
    """An endpoint with labels: labelled("sglang") or labelled(**{"key": "value"})."""

    def build(engine_type: str = "", /, **labels: str) -> Endpoint:
        if engine_type:
            labels["llm-d.ai/engine-type"] = engine_type
        return Endpoint(name="a", address="10.0.0.1", port=8000, labels=labels)

    return build


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "model server")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def pytest_asyncio_loop_factories(config, item):
    """On uvloop, as the product runs; what reads sockets on asyncio's own loop besides."""
    factories = {"uvloop": uvloop.new_event_loop}
    return factories if item.path.name != "test_scrape.py" else {**factories, "asyncio": asyncio.new_event_loop}
