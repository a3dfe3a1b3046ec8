from __future__ import annotations

import os
import pty
import select
import stat
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from copytrader.cli import app
from copytrader.config import load
from copytrader.config.writing import PROPOSED

RUN = CliRunner()
ROOT = Path(__file__).parent.parent
BOTH = ["--leader", "1000000001", "--follower", "asha=1000000002"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_options_alone_write_a_private_configuration_that_follow_accepts(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["init", *BOTH])

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "copytrader.toml is written, readable by you alone. Now:"
    steps = [line.split("  ")[1] for line in done.stdout.splitlines()[1:5]]
    assert steps == ["copytrader login", "copytrader doctor", "copytrader follow --dry-run", "copytrader follow"]
    path = tmp_path / "copytrader.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    config = load(path, {})
    config.check_for_follow()
    follower = config.followers["asha"]
    assert (config.leader.client_id, follower.client_id) == ("1000000001", "1000000002")
    assert follower.sizing.ratio == 1
    assert {key: getattr(follower.limits, key) for key in PROPOSED} == PROPOSED
    assert config.copy_rules.market_hours == "enforce"
    assert not config.dhan.is_simulated
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_the_next_steps_name_the_file_that_was_named() -> None:
    done = RUN.invoke(app, ["init", "--config", "my own.toml", *BOTH])

    steps = [line.strip().split("   ")[0] for line in done.stdout.splitlines()[1:5]]
    assert steps == [
        "copytrader " + command.replace("@", "--config 'my own.toml'")
        for command in ("login @", "doctor @", "follow @ --dry-run", "follow @")
    ]


def test_every_option_reaches_the_file(tmp_path: Path) -> None:
    options = ["--follower", "ravi-k=1000000003", "--ratio", "asha=2", "--ratio", "0.25", "--segment", "NSE_FNO"]
    options += ["--max-order-lots", "3", "--max-daily-loss", "999", "--simulator", "http://127.0.0.1:8080/"]
    done = RUN.invoke(app, ["--config", "my.toml", "init", *BOTH, *options])

    assert done.exit_code == 0, done.stderr
    config = load(tmp_path / "my.toml", {})
    assert {name: each.sizing.ratio for name, each in config.followers.items()} == {
        "asha": Decimal(2),
        "ravi-k": Decimal("0.25"),
    }
    for follower in config.followers.values():
        assert (follower.limits.max_order_lots, follower.limits.max_daily_loss) == (3, Decimal(999))
        assert follower.filter.segments == ("NSE_FNO",)
    assert config.dhan.is_simulated
    assert config.dhan.order_update_url == "ws://127.0.0.1:8080"
    assert config.copy_rules.market_hours == "off"


@pytest.mark.parametrize("link", [False, True])
def test_an_existing_file_is_never_touched(tmp_path: Path, link: bool) -> None:
    path = tmp_path / "copytrader.toml"
    if link:
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_text("precious")
    done = RUN.invoke(app, ["init", *BOTH])

    assert (done.exit_code, done.stdout) == (2, "")
    assert "exists already and is left as it is" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
    assert link or path.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give --leader CLIENT_ID and --follower NAME=CLIENT_ID, or run this at a terminal"),
        (["--leader", "1"], "give --leader CLIENT_ID and --follower NAME=CLIENT_ID, or run this at a terminal"),
        (["--leader", "1", "--follower", "a=1"], 'followers.a.client_id must differ from leader.client_id, was "1"'),
        (["--leader", "x y", "--follower", "a=1"], "leader.client_id must be the account's Dhan client id"),
        (["--leader", "1", "--follower", 'a"b=2'], '--follower a"b=2: must be NAME=CLIENT_ID'),
        (["--leader", "1", "--follower", "leader=2"], "--follower leader=2: must be NAME=CLIENT_ID"),
        (["--leader", "1", "--follower", "a"], "--follower a: must be NAME=CLIENT_ID"),
        (["--leader", "1", "--follower", "a=2", "--follower", "a=3"], "two followers have the same name"),
        (["--leader", "1", "--follower", "a=2", "--ratio", "b=1"], "--ratio b=1: there is no --follower b"),
        (["--leader", "1", "--follower", "a=2", "--ratio", "half"], "--ratio half: must be a number such as 0.5"),
        (["--leader", "1", "--follower", "a=2", "--ratio", "0"], "--ratio 0: must be above 0 and at most 1000"),
        (["--leader", "1", "--follower", "a=2", "--segment", "NYSE"], "followers.a.filter.segments.0 must be one of"),
        (["--leader", "1", "--follower", "a=2", "--simulator", "http://sim.example"], "dhan.api_url must begin with"),
        (
            ["--leader", "1", "--follower", "a=2", "--simulator", "sim"],
            "--simulator sim: must be the address it serves",
        ),
        (["--config", "no/x.toml", "--leader", "1", "--follower", "a=2"], "no is no directory: create it first"),
    ],
)
def test_an_answer_that_cannot_be_writes_nothing(tmp_path: Path, options: list[str], words: str) -> None:
    done = RUN.invoke(app, ["init", *options])

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(words)
    assert list(tmp_path.iterdir()) == []


# --- asked at a terminal -----------------------------------------------------------------


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.text = ""
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.environ.update(PYTHONPATH=str(ROOT), TERM="dumb")
            os.execv(sys.executable, [sys.executable, "-m", "copytrader", *arguments])

    def answers(self, question: str, answer: str) -> None:
        seen = len(self.text)
        end = time.monotonic() + 15
        while question not in self.text[seen:]:
            assert time.monotonic() < end, f"never asked {question!r}: {self.text}"
            if select.select([self._file], [], [], 0.1)[0]:
                self.text += os.read(self._file, 4096).decode()
        os.write(self._file, f"{answer}\n".encode())

    def ends(self) -> int:
        end = time.monotonic() + 30
        while True:
            if not select.select([self._file], [], [], 0.1)[0]:
                assert time.monotonic() < end, f"does not end: {self.text}"
                continue
            try:
                part = os.read(self._file, 4096)
            except OSError:
                break
            if not part:
                break
            self.text += part.decode()
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def test_what_options_leave_open_is_asked_until_it_can_be(tmp_path: Path) -> None:
    terminal = Terminal("init", "--max-order-lots", "7")
    terminal.answers("client id of the leader", "not an id")
    terminal.answers("digits only", "abc")
    terminal.answers("digits only", "1000000001")
    terminal.answers("a follower's name", "leader")
    terminal.answers("a follower's name", "Asha")
    terminal.answers("client id of asha", "1000000001")
    terminal.answers("that is the leader; each account has its own", "1000000002")
    terminal.answers("times the leader's lots for asha [1]", "lots")
    terminal.answers("times the leader's lots for asha [1]", "0.5")
    terminal.answers("another follower?", "y")
    terminal.answers("a follower's name", "asha")
    terminal.answers("a follower's name", "ravi")
    terminal.answers("client id of ravi", "1000000002")
    terminal.answers("that is asha; each account has its own", "1000000003")
    terminal.answers("times the leader's lots for ravi [1]", "")
    terminal.answers("another follower?", "")
    terminal.answers("lots of one order [7]", "")
    terminal.answers("rupees lost in a day [10000]", "5000")

    assert terminal.ends() == 0, terminal.text
    config = load(tmp_path / "copytrader.toml", {})
    assert {name: each.sizing.ratio for name, each in config.followers.items()} == {
        "asha": Decimal("0.5"),
        "ravi": Decimal(1),
    }
    limits = config.followers["ravi"].limits
    assert (limits.max_order_lots, limits.max_daily_loss) == (7, Decimal(5000))


def test_going_away_in_the_middle_writes_nothing(tmp_path: Path) -> None:
    terminal = Terminal("init")
    terminal.answers("client id of the leader", "\x03")

    assert terminal.ends() == 1
    assert "interrupted" in terminal.text
    assert "Traceback" not in terminal.text
    assert list(tmp_path.iterdir()) == []
