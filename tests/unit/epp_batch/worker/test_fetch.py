"""Recordings behind http, against a real server that misbehaves when told to."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from epp.clock import SystemClock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import Recording
from epp_batch.worker import fetch
from epp_batch.worker.failures import Deadline

CONTENT = b"sound" * 100_000


class Handler(http.server.BaseHTTPRequestHandler):
    """/<status> answers with that status, /flaky fails once, /short breaks off, all else is CONTENT."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        name = self.path.strip("/")
        if name.isdigit() or (name == "flaky" and len(server.asked) == 1):
            self.send_error(int(name) if name.isdigit() else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if name == "short" else CONTENT)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_RETRY_SECONDS", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server, name):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def leash(stop=None):
    return Deadline(SystemClock(), stop or threading.Event(), "a.wav")


def download(server, name):
    with fetch.open_local_file(Recording(source=url(server, name), stems=("a",)), leash()) as path:
        return path.read_bytes(), path


def failing(server, name):
    with pytest.raises(TaskError) as caught:
        download(server, name)
    return caught.value


def test_a_download_is_there_while_it_is_needed(server):
    content, path = download(server, "a.mp3")
    assert content == CONTENT
    assert not path.exists()


def test_what_may_pass_is_tried_again(server):
    assert download(server, "flaky")[0] == CONTENT
    assert server.asked == ["/flaky", "/flaky"]


def test_what_does_not_pass(server):
    error = failing(server, "503")
    assert (error.kind, error.stage, error.message) == (
        FailureKind.DOWNLOAD,
        TaskStage.DOWNLOAD,
        "the server answers 503, 3 times",
    )
    assert len(server.asked) == fetch.MAX_TRIES


def test_a_refusal_is_not_asked_twice(server):
    error = failing(server, "404")
    assert (error.kind, error.message) == (FailureKind.MISSING, "the server answers 404")
    assert len(server.asked) == 1


def test_half_an_answer_is_no_recording(server):
    error = failing(server, "short")
    assert error.kind is FailureKind.DOWNLOAD
    assert f"of {len(CONTENT)} bytes" in error.message


def test_nobody_answers(server):
    server.shutdown()
    server.server_close()
    error = failing(server, "a.mp3")
    assert error.kind is FailureKind.DOWNLOAD
    assert "refused" in error.message.lower()


def test_a_stop_ends_a_download(server):
    stop = threading.Event()
    stop.set()
    recording = Recording(source=url(server, "a.mp3"), stems=("a",))
    with pytest.raises(TaskError) as caught, fetch.open_local_file(recording, leash(stop)):
        pass
    assert caught.value.kind is FailureKind.STOPPED


def test_a_path_is_where_it_is(tmp_path):
    with fetch.open_local_file(Recording(source=str(tmp_path / "a.wav"), stems=("a",)), leash()) as path:
        assert path == tmp_path / "a.wav"


def test_bytes_that_changed_are_not_transcribed(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    recording = Recording(source=str(path), stems=("a",), sha256=digest)
    assert fetch.verify_digest(path, recording) == digest
    path.write_bytes(b"two")
    with pytest.raises(TaskError, match="changed since it was submitted"):
        fetch.verify_digest(path, recording)


def test_of_an_address_that_nobody_read_only_the_address_was_hashed(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    address = "https://calls.example/1.mp3"
    recording = Recording(source=address, stems=("a",), sha256=hashlib.sha256(address.encode()).hexdigest())
    assert fetch.verify_digest(path, recording) == hashlib.sha256(b"one").hexdigest()
