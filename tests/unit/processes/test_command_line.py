"""What people see who type a command wrongly."""

import pytest

from promcompat.__main__ import main
from promcompat.processes.command_line import build_parser


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("tenant", "list|grant|revoke|set-retention"),
        ("token", "list|create|revoke"),
        ("limits", "list|set|unset"),
    ],
)
def test_a_command_without_its_action_names_the_actions_and_no_settings(
    command: str, actions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command])
    assert capsys.readouterr().err == (
        f"usage: promcompat {command} [--SETTING VALUE ...] {actions} ...\n"
        f"promcompat {command}: error: the following arguments are required: {actions}\n"
    )
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "frob"])
    _, _, told = capsys.readouterr().err.partition("invalid choice: 'frob'")
    assert all(action in told for action in actions.split("|"))


def test_an_unknown_flag_says_where_the_known_ones_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--nope"])
    told = capsys.readouterr().err
    assert "unrecognized arguments: --nope; promcompat serve --help lists the known ones" in told
