from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copytrader import demo, render, session
from copytrader.cli import demo as command
from copytrader.config import load
from copytrader.core.facts import Skip
from copytrader.core.model import SkipReason
from copytrader.core.names import correlation_id
from copytrader.failure import Failure
from copytrader.simulator import LEADER_ID, Exchange, Settings, options_desk, token_of
from copytrader.simulator.world import now

ROOT = Path(__file__).parent.parent
OPTION = ("NSE_FNO", "40001")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The demonstration on a terminal of 80 columns; a real account's token lies in the environment."""
    env = {
        **os.environ,
        "TMPDIR": str(tmp_path_factory.mktemp("demo")),
        "COLUMNS": "80",
        "FORCE_COLOR": "1",
        "COPYTRADER_FOLLOWERS__ASHA__ACCESS_TOKEN": "a-real-token",
    }
    return subprocess.run(
        [sys.executable, "-m", "copytrader", "demo"],
        check=False, capture_output=True, text=True, timeout=60, cwd=ROOT, env=env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(shown: subprocess.CompletedProcess[str]) -> Path:
    found = re.search(r"the configuration and the journal are in (.*)", shown.stderr)
    assert found is not None
    return Path(found[1])


def test_it_ends_well_and_says_that_the_accounts_agree(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    assert "All accounts agree" in shown.stdout
    assert "WRONG" not in shown.stdout


def test_it_fits_80_columns(shown: subprocess.CompletedProcess[str]) -> None:
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.stdout.splitlines()]
    table = plain[: plain.index(next(line for line in plain if line.startswith("Of a market order")))]

    assert max(map(len, table)) <= 80
    assert sum("STOP_LOSS 98.50 at 99.90" in line for line in table) == 3


def test_it_shows_each_account_side_by_side_and_why_something_was_not_copied(
    shown: subprocess.CompletedProcess[str],
) -> None:
    for account in ("leader", "asha", "ravi"):
        assert shown.stdout.count(f" {account} ") >= 8
    for reason in ("LIMIT_ORDER_LOTS", "BELOW_ONE_LOT", "NOTHING_TO_EXIT"):
        assert reason in shown.stdout


def test_it_leaves_a_private_folder_with_configuration_and_journal(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("copytrader.toml", "copytrader.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert load(folder / "copytrader.toml", {}).dhan.is_simulated
    with closing(sqlite3.connect(folder / "copytrader.db")) as journal:
        kinds = dict(journal.execute("SELECT kind, count(*) FROM facts GROUP BY kind"))
    assert (kinds["Modify"], kinds["Cancel"], kinds["Skip"], kinds["Stopped"]) == (2, 3, 3, 1)


def test_no_token_is_shown_or_kept_outside_the_configuration(
    shown: subprocess.CompletedProcess[str], folder: Path
) -> None:
    for text in (shown.stdout, shown.stderr, *(path.read_bytes().decode("latin-1") for path in folder.glob("*.db*"))):
        assert "a-real-token" not in text
        assert token_of(LEADER_ID) not in text


def test_the_hints_lead_somewhere(shown: subprocess.CompletedProcess[str]) -> None:
    hints = shown.stderr[shown.stderr.index("Look at:") :].splitlines()[1:]

    assert len(hints) >= 3
    for hint in hints:
        first, *rest = hint.split()
        if first != "copytrader":
            assert Path(first).exists()
            continue
        done = subprocess.run(
            [sys.executable, "-m", first, *rest],
            check=False, capture_output=True, text=True, timeout=30, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, (hint, done.stderr)


def run(folder: Path) -> tuple[demo.Report, list[str]]:
    said: list[str] = []
    return asyncio.run(demo.run(folder, said.append, pace=0)), said


def test_the_report_is_json_with_one_row_for_each_order_and_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, said = run(tmp_path)
    render.document(command._document(report, tmp_path))
    document = json.loads(capsys.readouterr().out)

    assert (document["agree"], document["differences"], len(document["orders"])) == (True, [], 24)
    assert len({tuple(row) for row in document["orders"]}) == 1
    assert [row["leader"] for row in document["positions"]] == [0, 0, 0]
    lots = {(row["number"], row["account"]): row["quantity"] for row in document["orders"]}
    assert [lots[number, "asha"] for number in range(1, 9)] == [75, 75, 150, 150, 75, 450, None, None]
    assert [lots[number, "ravi"] for number in range(1, 9)] == [225, 75, 300, 300, 150, None, 65, 65]
    assert "copying 1000000001 to asha, ravi" in said


# --- the judge -----------------------------------------------------------------------


class Desk:
    """A simulator where nobody copies: the followers' orders are made by hand."""

    def __init__(self) -> None:
        self.exchange: Exchange = options_desk(now, 2, Settings(transit_seconds=0))
        self.judge = demo.Judge(self.exchange)
        self.leader = self.exchange.leader(LEADER_ID)

    def play(self, lots: int = 2, **copies: int) -> demo.Play:
        order_id = self.leader.place(*OPTION, "BUY", lots * 75, "LIMIT", Decimal(95))
        play = demo.Play(len(self.judge.plays) + 1, order_id, {"asha": 0, "ravi": 0} | copies)
        self.judge.plays.append(play)
        return play

    def copies(self, play: demo.Play, name: str, quantity: int, price: str = "95", generation: int = 0) -> str:
        client_id = demo.CLIENTS[name]
        fields = {
            "dhanClientId": client_id,
            "correlationId": correlation_id(LEADER_ID, now().date(), play.order_id, client_id, generation),
            "transactionType": "BUY",
            "exchangeSegment": OPTION[0],
            "productType": "MARGIN",
            "orderType": "LIMIT",
            "validity": "DAY",
            "securityId": OPTION[1],
            "quantity": quantity,
            "price": float(price),
        }
        headers = {"access-token": token_of(client_id), "client-id": client_id}
        answer = self.exchange.request("POST", "/v2/orders", headers, json.dumps(fields).encode())
        order_id: str = json.loads(answer.body)["orderId"]
        return order_id

    def skips(self, play: demo.Play, *names: str) -> None:
        self.judge.skips += [Skip(name, play.order_id, SkipReason.FILTERED, "x") for name in names]

    @property
    def differences(self) -> Sequence[str]:
        return list(self.judge.differences())


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_judge_is_content_with_copies_and_reasons(desk: Desk) -> None:
    play = desk.play(asha=1)
    desk.copies(play, "asha", 75)
    desk.skips(play, "ravi")

    assert desk.differences == []
    report = desk.judge.report()
    assert report.agree
    assert [(row["account"], row["status"]) for row in report.orders] == [
        ("leader", "PENDING"),
        ("asha", "PENDING"),
        ("ravi", "not copied"),
    ]


def test_the_judge_sees_what_is_missing_and_what_is_silent(desk: Desk) -> None:
    desk.play(asha=1)

    assert desk.differences == ["order 1, asha: not copied", "order 1, ravi: neither copied nor skipped with a reason"]
    assert desk.judge.report().orders[1]["status"] == "MISSING"


@pytest.mark.parametrize(
    ("quantity", "price", "said"),
    [
        (150, "95", "order 1, asha: has 150, not 75"),
        (75, "94", "order 1, asha: LIMIT 94.0 0, the leader's LIMIT 95 0"),
    ],
)
def test_the_judge_sees_a_wrong_size_and_a_wrong_price(desk: Desk, quantity: int, price: str, said: str) -> None:
    play = desk.play(asha=1)
    desk.copies(play, "asha", quantity, price)
    desk.skips(play, "ravi")

    assert [re.sub(r" 0\.0\b", " 0", each) for each in desk.differences] == [said]


def test_the_judge_sees_an_order_left_open_and_one_wrongly_filled(desk: Desk) -> None:
    play = desk.play(asha=1, ravi=2)
    desk.copies(play, "asha", 75)
    ravi = desk.copies(play, "ravi", 150)
    desk.exchange.fill(ravi, 75)
    desk.leader.cancel(play.order_id)

    assert desk.differences == [
        "order 1, asha: is PENDING, the leader's is CANCELLED",
        "order 1, ravi: is PART_TRADED, the leader's is CANCELLED",
        "order 1, ravi: filled 75 of 150, not in the leader's proportion",
    ]
    assert f"ravi: holds 75 of {desk.judge.report().positions[0]['symbol']}, the leader is flat" in (
        desk.judge.report().differences
    )


def test_the_judge_sees_an_order_that_copies_nothing_and_a_request_that_nobody_should_send(desk: Desk) -> None:
    play = desk.play(asha=1)
    desk.skips(play, "ravi")
    desk.copies(play, "asha", 75)
    stranger = desk.copies(play, "asha", 75, generation=1)
    desk.exchange.request("DELETE", "/v2/positions", {})

    assert f"asha: order {stranger} copies nothing" in desk.differences
    assert any(each.startswith("a request that nobody should send: DELETE") for each in desk.differences)


def test_a_result_of_nought_is_shown_and_not_left_blank(desk: Desk) -> None:
    play = desk.play(asha=1)
    order = desk.copies(play, "asha", 75)
    desk.exchange.fill(order, 75)

    (row,) = desk.judge.report().positions

    assert (row["asha_realized"], row["ravi_realized"]) == (Decimal("0.00"), None)


def test_an_interrupted_demonstration_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(*_: Any) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(session, "run", stopped)

    with pytest.raises(Failure, match="interrupted before the leader had finished"):
        run(tmp_path)
