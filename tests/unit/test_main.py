"""The command line: commands, llm-d's bare argument lists, errors as exit code 2."""

import subprocess
import sys

import pytest

from epp import __main__, __version__

PORTS = ("--transport=grpcio", "--host=127.0.0.1", "--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"epp {__version__}\n"


def test_flags_without_a_command_are_those_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--config-file=a", "--config-text=b"]) == 2
    assert "epp serve: flags: 1 problem" in capsys.readouterr().err


def test_every_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in __main__.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            __main__.main([command.name, "--help"])
        assert ended.value.code == 0, command.name
    assert "--completion" in capsys.readouterr().out


def test_an_unknown_flag_is_reported_by_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["plugins", "--nope"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "usage: epp plugins" in printed
    assert "epp plugins: error: unrecognized arguments: --nope" in printed


def test_a_closed_pipe_ends_the_command_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "epp", "plugins"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (141, b"")


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [("rich", ["up", "--sim=1"], "gateway"), ("grpc", ["serve", "--endpoint=127.0.0.1:1", *PORTS], "grpcio")],
)
def test_a_missing_optional_dependency_is_reported_with_its_extra(module: str, words: list[str], extra: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; from epp.__main__ import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"is not installed: pip install 'endpoint-picker[{extra}]'")
    assert "Traceback" not in done.stderr
