"""The command line: commands, llm-d's bare argument lists, errors as exit code 2."""

import pytest

from epp import __main__, __version__


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"epp {__version__}\n"


def test_flags_without_a_command_mean_serve(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--config-file=a", "--config-text=b"]) == 2
    assert "epp serve: flags: 1 problem" in capsys.readouterr().err


def test_every_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in __main__.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            __main__.main([command.name, "--help"])
        assert ended.value.code == 0, command.name
    assert "--completion" in capsys.readouterr().out
