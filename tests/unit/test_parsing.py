"""What the command line takes apart."""

import pytest

from gitsyncd.cli.parsing import _COMMANDS, make_parser


def test_a_folder_and_a_revision_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(["plan", "web", "--dir", "fleet", "--ref", "next"])

    assert caught.value.code == 2
    assert "not allowed with argument --dir" in capsys.readouterr().err


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args([command, "--help"])

    assert caught.value.code == 0
    assert f"gitsyncd {command}" in capsys.readouterr().out
