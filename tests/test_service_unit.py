from __future__ import annotations

import configparser
import re
from pathlib import Path

from typer.testing import CliRunner

from copytrader.cli import app
from copytrader.failure import ExitCode

ROOT = Path(__file__).parent.parent


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(ROOT / "examples/copytrader.service")
    return parsed


def test_its_command_exists_with_these_options() -> None:
    program, command, *options = unit()["Service"]["ExecStart"].split()
    shown = CliRunner().invoke(app, [command, "--help"]).stdout

    assert program.endswith("/copytrader")
    assert all(option in shown for option in options if option.startswith("--"))


def test_it_is_not_started_again_where_only_a_person_helps() -> None:
    codes = {ExitCode(int(code)) for code in unit()["Service"]["RestartPreventExitStatus"].split()}

    assert codes == {ExitCode.USAGE, ExitCode.TOKEN, ExitCode.SAFETY}
    assert unit()["Service"]["Restart"] == "on-failure"


def test_it_waits_for_ready_as_long_as_it_takes_and_watches_afterwards() -> None:
    service = unit()["Service"]

    assert (service["Type"], service["NotifyAccess"], service["TimeoutStartSec"]) == ("notify", "main", "infinity")
    assert int(service["WatchdogSec"]) >= 30


def test_the_pages_of_the_daily_routine_name_commands_and_options_that_exist() -> None:
    for page in ("daily-routine", "security", "faq"):
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        for command, options in re.findall(r"copytrader ([a-z]+)((?: --[a-z-]+| [A-Za-z\[\]]+)*)", text):
            done = CliRunner().invoke(app, [command, "--help"])
            assert done.exit_code == 0, f"{page}: copytrader {command}"
            for option in re.findall(r"--[a-z-]+", options):
                assert option in done.stdout, f"{page}: copytrader {command} {option}"
