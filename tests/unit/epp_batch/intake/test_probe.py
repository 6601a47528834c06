"""Durations probed from real containers, and errors for files that are not audio."""

from __future__ import annotations

import os
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import pytest

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.intake.probe import probe_duration
from tests.unit.epp_batch.intake.conftest import record


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "m4a", "aac", "opus"])
def test_duration_of_every_container(audio, suffix):
    assert probe_duration(str(record(audio / f"a.{suffix}", 3.0))) == pytest.approx(3.0, abs=0.2)


def test_truncated_wav_has_the_duration_of_its_data(audio):
    path = record(audio / "a.wav", 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe_duration(str(path)) == pytest.approx(2.0, abs=0.1)


def probe_error(path):
    with pytest.raises(TaskError) as caught:
        probe_duration(str(path))
    assert caught.value.stage is TaskStage.PROBE
    return caught.value


def test_empty_file_is_corrupt(audio):
    (audio / "a.mp3").touch()
    error = probe_error(audio / "a.mp3")
    assert error.kind is FailureKind.CORRUPT
    assert error.message == "the file is empty"


@pytest.mark.parametrize("content", [os.urandom(20_000), b"not audio at all\n" * 500])
def test_file_that_is_not_audio_is_corrupt(audio, content):
    (audio / "a.mp3").write_bytes(content)
    assert probe_error(audio / "a.mp3").kind is FailureKind.CORRUPT


def test_truncated_mp4_is_corrupt(audio):
    path = record(audio / "a.m4a", 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe_error(path).kind is FailureKind.CORRUPT


def test_missing_or_unreadable_file(audio):
    assert probe_error(audio / "none.mp3").kind is FailureKind.MISSING
    (audio / "folder.mp3").mkdir()
    assert probe_error(audio / "folder.mp3").message == "Is a directory"


def test_video_without_audio_stream(audio):
    with av.open(str(audio / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    assert probe_error(audio / "a.mp4").message == "it has no audio stream"


@pytest.fixture
def server(audio):
    """An HTTP server for `audio`; its address."""
    serve = partial(Quiet, directory=str(audio))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_duration_over_http(audio, server):
    record(audio / "a.mp3", 3.0)
    (audio / "b.mp3").write_bytes(b"<html>no such call</html>" * 100)
    assert probe_duration(f"{server}/a.mp3") == pytest.approx(3.0, abs=0.2)
    assert probe_error(f"{server}/b.mp3").kind is FailureKind.CORRUPT
    assert probe_error(f"{server}/none.mp3").kind is FailureKind.MISSING


def test_unreachable_server_gives_an_unknown_duration():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        unreachable = set()
        assert probe_duration(f"http://{place}/a.mp3", unreachable) is None
    assert unreachable == {place}


def test_unreachable_host_is_skipped(audio, server):
    record(audio / "a.mp3", 3.0)
    assert probe_duration(f"{server}/a.mp3", {server.removeprefix("http://")}) is None
