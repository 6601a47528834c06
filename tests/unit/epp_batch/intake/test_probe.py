"""Lengths come from real containers; what is no audio says so."""

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
def test_the_length_of_every_kind(audio, suffix):
    assert probe_duration(str(record(audio / f"a.{suffix}", 3.0))) == pytest.approx(3.0, abs=0.2)


def test_a_cut_wav_has_the_length_of_what_is_there(audio):
    path = record(audio / "a.wav", 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe_duration(str(path)) == pytest.approx(2.0, abs=0.1)


def failing(path):
    with pytest.raises(TaskError) as caught:
        probe_duration(str(path))
    assert caught.value.stage is TaskStage.PROBE
    return caught.value


def test_an_empty_file(audio):
    (audio / "a.mp3").touch()
    error = failing(audio / "a.mp3")
    assert error.kind is FailureKind.CORRUPT
    assert error.message == "the file is empty"


@pytest.mark.parametrize("content", [os.urandom(20_000), b"not audio at all\n" * 500])
def test_what_is_no_audio(audio, content):
    (audio / "a.mp3").write_bytes(content)
    assert failing(audio / "a.mp3").kind is FailureKind.CORRUPT


def test_a_cut_container(audio):
    path = record(audio / "a.m4a", 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert failing(path).kind is FailureKind.CORRUPT


def test_a_missing_file_and_one_that_may_not_be_read(audio):
    assert failing(audio / "none.mp3").kind is FailureKind.MISSING
    (audio / "folder.mp3").mkdir()
    assert failing(audio / "folder.mp3").message == "Is a directory"


def test_a_film_without_sound(audio):
    with av.open(str(audio / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    assert failing(audio / "a.mp4").message == "no audio stream in it"


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


def test_lengths_over_http(audio, server):
    record(audio / "a.mp3", 3.0)
    (audio / "b.mp3").write_bytes(b"<html>no such call</html>" * 100)
    assert probe_duration(f"{server}/a.mp3") == pytest.approx(3.0, abs=0.2)
    assert failing(f"{server}/b.mp3").kind is FailureKind.CORRUPT
    assert failing(f"{server}/none.mp3").kind is FailureKind.MISSING


def test_a_server_that_is_not_there_may_be_there_for_the_workers():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        silent = set()
        assert probe_duration(f"http://{place}/a.mp3", silent) is None
    assert silent == {place}


def test_a_server_that_did_not_answer_is_not_asked_again(audio, server):
    record(audio / "a.mp3", 3.0)
    assert probe_duration(f"{server}/a.mp3", {server.removeprefix("http://")}) is None
