"""Downloads from a real HTTP server that fails on request, and digest verification."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from epp.clock import SystemClock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import Recording
from epp_batch.worker import fetch
from epp_batch.worker.deadline import Deadline

CONTENT = b"sound" * 100_000


class Handler(http.server.BaseHTTPRequestHandler):
    """/<status> answers with that status, /flaky fails once, /short is truncated, any other path is CONTENT."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        name = self.path.strip("/")
        if name.isdigit() or (name == "flaky" and len(server.requests) == 1):
            self.send_error(int(name) if name.isdigit() else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if name == "short" else CONTENT)

    def log_message(self, *_):
        """Logs nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_RETRY_SECONDS", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server, name):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def deadline(stop=None):
    return Deadline(SystemClock(), stop or threading.Event(), "a.wav")


def download(server, name):
    with fetch.open_local_file(Recording(source=url(server, name), stems=("a",)), deadline()) as path:
        return path.read_bytes(), path


def download_error(server, name):
    with pytest.raises(TaskError) as caught:
        download(server, name)
    return caught.value


def test_download_is_removed_afterwards(server):
    content, path = download(server, "a.mp3")
    assert content == CONTENT
    assert not path.exists()


def test_transient_status_is_retried(server):
    assert download(server, "flaky")[0] == CONTENT
    assert server.requests == ["/flaky", "/flaky"]


def test_retries_are_limited(server):
    error = download_error(server, "503")
    assert (error.kind, error.stage, error.message) == (
        FailureKind.DOWNLOAD,
        TaskStage.DOWNLOAD,
        "the server answers HTTP 503 (tried 3 times)",
    )
    assert len(server.requests) == fetch.MAX_TRIES


def test_permanent_status_is_not_retried(server):
    error = download_error(server, "404")
    assert (error.kind, error.message) == (FailureKind.MISSING, "the server answers HTTP 404")
    assert len(server.requests) == 1


def test_truncated_response_fails(server):
    error = download_error(server, "short")
    assert error.kind is FailureKind.DOWNLOAD
    assert f"of {len(CONTENT)} bytes" in error.message


def test_refused_connection_fails(server):
    server.shutdown()
    server.server_close()
    error = download_error(server, "a.mp3")
    assert error.kind is FailureKind.DOWNLOAD
    assert "refused" in error.message.lower()


def test_stop_ends_a_download(server):
    stop = threading.Event()
    stop.set()
    recording = Recording(source=url(server, "a.mp3"), stems=("a",))
    with pytest.raises(TaskError) as caught, fetch.open_local_file(recording, deadline(stop)):
        pass
    assert caught.value.kind is FailureKind.STOPPED


def test_local_path_is_used_directly(tmp_path):
    with fetch.open_local_file(Recording(source=str(tmp_path / "a.wav"), stems=("a",)), deadline()) as path:
        assert path == tmp_path / "a.wav"


def test_changed_content_is_rejected(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    recording = Recording(source=str(path), stems=("a",), sha256=digest)
    assert fetch.verify_digest(path, recording) == digest
    path.write_bytes(b"two")
    with pytest.raises(TaskError, match="changed since it was submitted"):
        fetch.verify_digest(path, recording)


def test_digest_of_the_url_text_is_accepted(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    address = "https://calls.example/1.mp3"
    recording = Recording(source=address, stems=("a",), sha256=hashlib.sha256(address.encode()).hexdigest())
    assert fetch.verify_digest(path, recording) == hashlib.sha256(b"one").hexdigest()
