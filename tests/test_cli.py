from __future__ import annotations

import ast
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from copytrader import __version__
from copytrader.__main__ import main as program_main
from copytrader.cli import app, guard
from copytrader.config import ConfigError, load
from copytrader.core.facts import Stopped
from copytrader.core.model import IST
from copytrader.display import _FactLines
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal

WriteConfig = Callable[..., Path]
RUN = CliRunner()
ROOT = Path(__file__).parent.parent
HEAVY = {"dhanhq", "pandas", "aiohttp", "numpy", "pydantic", "rich", "sqlite_utils"}

MASTER = """\
EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,\
INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG
NSE,D,90001,NA,OPTIDX,26000,NIFTY,NIFTY-Nov2026-25000-CE,NIFTY 26 NOV 25000 CALL,OP,NA,75.0,2026-11-26,25000.0,CE,5.0,M
NSE,E,90002,INE000A00001,EQUITY,,MADEUP,MADE UP LTD,Made Up,ES,EQ,1,,,,5.0,NA
"""


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], check=False, capture_output=True, text=True, timeout=30, cwd=ROOT, **options
    )


def program(raising: BaseException | None = None, returning: object = None) -> typer.Typer:
    """An app under our guard whose one command ends as told."""
    ending = typer.Typer(cls=guard.Guard, rich_markup_mode=None)

    @ending.command()
    def end() -> object:
        if raising is not None:
            raise raising
        return returning

    @ending.callback()
    def root() -> None:
        pass

    return ending


# --- start-up ------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from copytrader.cli import app\ntry: app(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = python("-c", code)

    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_the_version_is_shown() -> None:
    done = RUN.invoke(app, ["--version"])

    assert (done.exit_code, done.stdout) == (0, f"copytrader {__version__}\n")


def test_no_command_shows_the_commands() -> None:
    done = RUN.invoke(app, [])

    assert done.exit_code == 0
    assert "instruments" in done.stdout


# --- how commands end ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "code", "lines"),
    [
        (Failure("one", "two"), 1, "one\ntwo\n"),
        (Failure("log in", code=ExitCode.TOKEN), 4, "log in\n"),
        (ConfigError("journal must be text"), 2, "journal must be text\n"),
        (KeyboardInterrupt(), 1, "interrupted\n"),
        (typer.Abort(), 1, "interrupted\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            1,
            "x: Permission denied; check the permissions of it and of its folder\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device; make room on that disk\n"),
        (OSError(errno.EIO, "Input/output error", "x"), 1, "x: Input/output error\n"),
        (typer.BadParameter("no such thing"), 2, "Invalid value: no such thing (see --help)\n"),
        (Failure("\x1b[31mred\nsecond"), 1, "red second\n"),
    ],
)
def test_a_failure_is_its_lines_on_stderr_and_its_code(ending: BaseException, code: int, lines: str) -> None:
    done = RUN.invoke(program(raising=ending), ["end"])

    assert (done.exit_code, done.stdout, done.stderr) == (code, "", lines)


@pytest.mark.parametrize(
    ("returned", "code"), [(None, 0), (ExitCode.FINE, 0), (ExitCode.FINDINGS, 3), (ExitCode.SAFETY, 6)]
)
def test_what_a_command_returns_is_the_exit_code(returned: object, code: int) -> None:
    assert RUN.invoke(program(returning=returned), ["end"]).exit_code == code


def test_what_stderr_cannot_take_changes_no_exit_code() -> None:
    """Some codes keep systemd from starting it again, whether or not there is room for the reason."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "copytrader", "--config", "not-there.toml", "follow"],
            check=False,
            stderr=full,
            timeout=30,
            cwd=ROOT,
        )

    assert ended.returncode == 2


def test_a_mistake_of_ours_is_not_hidden() -> None:
    done = RUN.invoke(program(raising=KeyError("oops")), ["end"])

    assert isinstance(done.exception, KeyError)


def test_a_wrong_option_is_one_line() -> None:
    done = RUN.invoke(app, ["instruments", "sync", "--nonsense"])

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--nonsense" in done.stderr


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    code = (
        "import typer; from copytrader.cli import app\n"
        "@app.command()\n"
        "def much() -> None:\n"
        "    for _ in range(100_000): print('row')\n"
        "app(['much'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.readline()
        writer.stdout.close()
        assert writer.stderr.read() == b""
        assert writer.wait(10) == 1


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_stream_that_is_closed_leads_nowhere(closed: tuple[int, ...]) -> None:
    """No file that is opened later may get the number of one: what is printed would be written into it."""
    code = (
        "import os, sys; from copytrader.__main__ import _open_standard_streams as opened; opened(); "
        "assert all(os.fstat(number) for number in (0, 1, 2)); file = os.open(os.devnull, os.O_RDONLY); "
        "assert file > 2; print('x'); print('y', file=sys.stderr); sys.stdout.flush(); sys.exit(7)"
    )
    ended = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {" ".join(f"{number}>&-" for number in closed)}', "sh", sys.executable, "-c", code],
        check=False,
        cwd=ROOT,
    )

    assert ended.returncode == 7


def test_an_interrupt_while_the_program_loads_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("copytrader.cli.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        program_main()
    assert ended.value.code == 1


def test_facts_that_can_no_longer_be_printed_are_said_to_be(tmp_path: Path) -> None:
    path, said = tmp_path / "j.db", list[str]()
    at = datetime.now(UTC)
    with Journal.open(path) as journal, Path("/dev/full").open("w") as full:
        lines = _FactLines(path, full, said.append)
        journal.record(Stopped(at))
        lines.wake(Stopped(at), ())
        lines.close()

    [line] = said
    assert line.startswith("warning: facts are printed no longer: No space left on device; copying goes on")


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "--json", "--csv"],
        ["audit", "--tail", "--csv"],
        ["audit", "verify", "--against", "foo"],
        ["reconcile", "--csv", "--json"],
        ["reconcile", "--yes"],
        ["reconcile", "--dry-run", "--json"],
        ["reconcile", "--watch", "1", "--yes"],
        ["config", "show", "--json", "--csv"],
    ],
)
def test_options_without_an_effect_or_against_each_other_are_one_line(
    write_config: WriteConfig, arguments: list[str]
) -> None:
    path = write_config()
    Journal.open(path.with_name("copytrader.db")).close()
    ended = RUN.invoke(app, [*arguments, "--config", str(path)])

    assert ended.exit_code == ExitCode.USAGE
    assert len(ended.stderr.splitlines()) == 1


def test_a_number_beyond_all_facts_is_one_line(write_config: WriteConfig) -> None:
    path = write_config()
    Journal.open(path.with_name("copytrader.db")).close()
    ended = RUN.invoke(app, ["audit", "--config", str(path), "--after", "9" * 25])

    assert ended.exit_code == 1
    assert ended.stderr == f"{path.with_name('copytrader.db')}: it has no number as large as one that was asked for\n"


def test_a_terminal_that_lacks_a_letter_shows_the_rest(write_config: WriteConfig) -> None:
    path = write_config('[followers."आशा"]')
    done = python(
        "-m", "copytrader", "instruments", "--config", str(path), env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# --- instruments ---------------------------------------------------------------------


@pytest.fixture
def master(tmp_path: Path) -> Path:
    path = tmp_path / "master.csv"
    path.write_text(MASTER)
    return path


def test_instruments_sync_reads_a_file(write_config: WriteConfig, master: Path, tmp_path: Path) -> None:
    args = ["instruments", "sync", "--config", str(write_config()), "--from", str(master)]

    first = RUN.invoke(app, args)
    again = RUN.invoke(app, [*args, "--json"])

    assert (first.exit_code, first.stdout) == (0, "2 instruments: 2 new, 0 changed, 0 gone\n")
    assert json.loads(again.stdout) == {
        "rows": 2,
        "added": 0,
        "changed": 0,
        "removed": 0,
        "problem_count": 0,
        "problems": [],
        "changes": [],
        "doubles": [],
    }
    assert (tmp_path / "copytrader.instruments.db").exists()


def test_a_lot_size_that_changed_is_shown(write_config: WriteConfig, master: Path) -> None:
    args = ["instruments", "sync", "--config", str(write_config()), "--from", str(master)]
    RUN.invoke(app, args)
    master.write_text(MASTER.replace("75.0", "65.0"))

    done = RUN.invoke(app, args)

    assert "lot size" in done.stdout
    assert done.stdout.splitlines()[-1].split()[-2:] == ["75", "65"]


def test_the_configuration_may_be_named_before_the_command(write_config: WriteConfig, master: Path) -> None:
    path = write_config("[copy]\nmax_age_seconds = 0")

    before = RUN.invoke(app, ["--config", str(path), "instruments", "sync", "--from", str(master)])
    alone = RUN.invoke(app, ["--config", str(path), "instruments"])

    expected = f"copy.max_age_seconds must be at least 1, was 0 ({path})\n"
    assert (before.exit_code, before.stderr) == (2, expected)
    assert (alone.exit_code, alone.stderr) == (2, expected)


def test_a_master_that_cannot_be_read_is_one_line(write_config: WriteConfig, tmp_path: Path) -> None:
    done = RUN.invoke(
        app, ["instruments", "sync", "--config", str(write_config()), "--from", str(tmp_path / "none.csv")]
    )

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("none.csv cannot be read: No such file or directory; name another with --from\n")


# --- simulator -----------------------------------------------------------------------


def test_the_simulator_says_where_it_is_serves_and_ends_at_a_signal(write_config: WriteConfig) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "copytrader", "simulator", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        section = "".join(server.stdout.readline() for _ in range(5))
        path = write_config(section)

        settings = load(path, {})
        synced = RUN.invoke(app, ["instruments", "--config", str(path)])
        server.send_signal(signal.SIGTERM)

        assert server.wait(10) == 0
        assert server.stderr.read().startswith("serving options-desk on http://127.0.0.1:")
    assert settings.dhan.is_simulated
    settings.check_for_follow()
    assert synced.exit_code == 0, synced.stderr
    assert " new, 0 changed, 0 gone" in synced.stdout


@pytest.mark.parametrize("option", [["--host", "0.0.0.0"], ["--scenario", "nowhere"], ["--port", "70000"]])
def test_a_simulator_that_cannot_be_is_one_line(option: list[str]) -> None:
    done = RUN.invoke(app, ["simulator", *option])

    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_simulator_at_a_port_that_is_taken_names_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = RUN.invoke(app, ["simulator", "--port", str(port)])

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"--port {port} of 127.0.0.1 cannot be served on: Address already in use; name another, or 0 for a free one\n"
    )


# --- a plain kill --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["audit", "--tail", "--json", "--journal", "copytrader.db"], 0),
        (["replay", str(ROOT / "examples/recorded-day.jsonl"), "--speed", "1"], 1),
    ],
)
def test_what_goes_on_and_on_ends_at_a_plain_kill_as_at_ctrl_c(tmp_path: Path, arguments: list[str], code: int) -> None:
    with Journal.open(tmp_path / "copytrader.db") as journal:
        journal.record(Stopped(datetime.now(IST)))
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-m", "copytrader", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as running:
            assert running.stdout is not None
            running.stdout.readline()
            running.send_signal(number)

            assert running.wait(10) == code
            assert "Traceback" not in running.stdout.read()


# --- the core ------------------------------------------------------------------------


def test_the_core_reads_no_clock() -> None:
    clocks = {"now", "utcnow", "today"}
    for path in (ROOT / "copytrader/core").rglob("*.py"):
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not clocks & called, path
