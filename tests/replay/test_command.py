"""`copytrader replay` as a user runs it: sources, options, outputs, exit codes, and no connection."""

from __future__ import annotations

import csv
import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from html import escape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from copytrader.cli import app
from copytrader.cli import replay as command
from copytrader.core.facts import BookRead, InstrumentRead
from copytrader.core.model import IST, Funds, Instrument, Security
from copytrader.core.state import State
from copytrader.failure import Failure
from copytrader.journal import Journal, Row
from copytrader.paper import FillModel
from copytrader.replay import frames
from copytrader.replay.offline import offline
from copytrader.replay.play import WHAT_IF, Track, play_events
from copytrader.replay.request import Request, opened
from copytrader.replay.watch import Pace, Theatre, said
from copytrader.view import Known, Watching, page
from tests.replay.support import EXAMPLE, decided, desk, example, journal_of, write
from tests.replay.test_proof import alter

WriteConfig = Callable[..., Path]
RUN = CliRunner()


def run(*arguments: object) -> Result:
    return RUN.invoke(app, ["replay", *map(str, arguments)])


def document(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration is found in the working directory or the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def facts_of(path: Path) -> list[Row]:
    with Journal.open(path, read_only=True) as opened_journal:
        return list(opened_journal.facts())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return journal_of(tmp_path / "copytrader.db", desk("asha:ratio=0.5"))


# --- --check -----------------------------------------------------------------------------


def test_check_gives_the_contract_s_document_and_0(journal: Path) -> None:
    found = document("--check", journal)

    assert list(found) == ["events", "decisions", "identical", "first_difference"]
    assert found["identical"] is True
    assert found["first_difference"] is None
    assert found["events"] > found["decisions"] / 2 > 0


def test_check_of_an_altered_journal_names_the_row_and_gives_3(journal: Path) -> None:
    alter(journal, 25, '"', "'")

    result = run("--check", journal, "--json")
    told = run("--check", journal)

    assert result.exit_code == told.exit_code == 3
    assert json.loads(result.stdout)["first_difference"]["seq"] == 25
    assert told.stdout.startswith("first difference at fact 25: the journal was altered")


def test_an_altered_journal_names_its_row_also_where_a_trigger_is_missing(journal: Path) -> None:
    alter(journal, 25, '"', "'", keep_dropped=True)

    found = json.loads(run("--check", journal, "--json").stdout)["first_difference"]

    assert found["seq"] == 25
    assert found["what"] == (
        "the journal was altered: the trigger facts_are_final is missing; fact 25 or its hash was changed"
    )


def test_what_if_says_that_the_journal_was_altered(journal: Path) -> None:
    seq = next(row.seq for row in facts_of(journal) if row.kind == "Place")
    alter(journal, seq, '"quantity":150', '"quantity":75')

    for options in (("--set", "followers.asha.sizing.ratio=1"), ("--until", "362261123000001")):
        result = run(journal, *options, "--json")

        warning = f"{journal}: the journal was altered: fact {seq} or its hash was changed"
        assert result.exit_code == 0
        assert result.stderr.startswith(warning)
        assert json.loads(result.stdout)["notes"][0].startswith(warning)


def test_check_shows_what_differs_with_its_cause_and_the_state_around_it(journal: Path) -> None:
    from copytrader.journal import Journal

    with Journal.open(journal, read_only=True) as opened:
        seq = next(row.seq for row in opened.facts(kinds=["Place"]))
    alter(journal, seq, '"quantity":150', '"quantity":75', rehash=True)

    said = run("--check", journal).stdout

    assert f"first difference at fact {seq}: recorded was Place asha 362261123000001 LIMIT" not in said
    assert f"first difference at fact {seq}: recorded was Place asha 362261123000001" in said
    assert "it follows from fact" in said
    assert "ticket.quantity: recorded 75, decided 150" in said
    assert "terms: BUY 300 NIFTY 29 DEC 25000 CALL LIMIT" in said


def test_check_of_the_configured_journal_takes_its_last_day(write_config: WriteConfig, journal: Path) -> None:
    write_config()

    result = run("--check")

    assert result.exit_code == 0, result.stderr
    assert "byte for byte" in result.stdout


def test_check_of_frames_or_with_other_rules_is_a_misuse(journal: Path) -> None:
    assert run("--check", EXAMPLE).exit_code == 2
    assert run("--check", journal, "--set", "followers.asha.sizing.ratio=1").exit_code == 2


# --- What if -------------------------------------------------------------------------------


def test_a_recorded_day_is_shown_with_the_proof_beneath(journal: Path) -> None:
    result = run(journal)

    assert result.exit_code == 0
    assert "150 at 111.75" in result.stdout
    assert "byte for byte" in result.stdout
    assert "charges" in result.stderr


def test_another_ratio_is_shown_beside_what_was_recorded(journal: Path) -> None:
    found = document(journal, "--set", "followers.asha.sizing.ratio=1")

    assert [result["result"] for result in found["results"]] == ["recorded", "what_if"]
    realized = [
        row["realized"] for result in found["results"] for row in result["accounts"] if row["account"] == "asha"
    ]
    assert realized == [712.5 + 375, 1425 + 225 + 375]
    assert found["differing"] == 6
    assert found["check"] is None


def test_a_journal_of_one_s_own_with_another_configuration(write_config: WriteConfig, journal: Path) -> None:
    other = write_config("\n[followers.asha.sizing]\nratio = 1\n\n[copy]\nmarket_hours = 'off'\n")

    found = document(journal, "--config", other)

    assert "followers.asha.sizing.ratio: 0.5 -> 1" in found["changed_rules"]
    assert any(text.startswith("followers.asha.limits.max_order_lots: none -> 20") for text in found["changed_rules"])


def test_a_limit_that_is_set_takes_the_place_of_unlimited(journal: Path) -> None:
    found = document(journal, "--set", "followers.asha.limits.max_order_lots=1")

    skips = found["results"][1]["accounts"][1]["skips"]
    assert skips == {"BELOW_ONE_LOT": 1, "LEADER_DONE": 1, "LIMIT_ORDER_LOTS": 1, "NOTHING_TO_EXIT": 1}


def test_what_cannot_be_a_rule_is_refused_in_the_configuration_s_words(journal: Path) -> None:
    wrong = run(journal, "--set", "followers.asha.sizing.ratio=-1")
    unknown = run(journal, "--set", "followers.asha.sizing.ration=1")
    shapeless = run(journal, "--set", "ratio")

    assert [wrong.exit_code, unknown.exit_code, shapeless.exit_code] == [2, 2, 2]
    assert "followers.asha.sizing.ratio" in wrong.stderr
    assert "ration" in unknown.stderr
    assert "--set needs KEY=VALUE" in shapeless.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "--csv"), "--json and --csv are two forms of one output: leave one out"),
        (("--check", "--csv"), "--check has one verdict and no rows: use --json in place of --csv"),
        (("--seed", 0), "--seed chooses what --reject-rate refuses: give a rate, or leave --seed out"),
        (("--seed", 3, "--slippage-ticks", 1), "--seed chooses what --reject-rate refuses"),
        (("--set", "journal=x.db"), "--set journal changes nothing in a replay: a replay depends on"),
        (("--set", "copy.poll_seconds=1"), "--set copy.poll_seconds changes nothing in a replay"),
        (("--set", "followers.asha.access_token=secret"), "--set followers.asha.access_token changes nothing"),
        (("--set", "dhan.api_url=https://x.in"), "--set dhan.api_url changes nothing in a replay"),
        (("--set", "followers.nobody.sizing.ratio=1"), "there is no follower nobody, there is asha"),
        (
            ("--add-follower", "ravi", "--set", "followers.nobody.sizing.ratio=1"),
            "there is no follower nobody, there are asha and ravi",
        ),
        (
            ("--set", "followers.asha.sizing.ratio=1", "--set", "followers.asha.sizing.ratio=2"),
            "--set gives followers.asha.sizing.ratio twice: leave one out",
        ),
    ],
)
def test_options_without_an_effect_or_against_each_other_are_refused_in_a_line(
    journal: Path, options: tuple[object, ...], said: str
) -> None:
    result = run(journal, *options)

    assert result.exit_code == 2
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_follower_who_is_not_in_the_other_configuration_is_named(write_config: WriteConfig, journal: Path) -> None:
    other = write_config("\n[copy]\nmarket_hours = 'off'\n")

    result = run(journal, "--config", other, "--set", "followers.nobody.sizing.ratio=1")
    added = document(journal, "--config", other, "--add-follower", "mira", "--set", "followers.mira.sizing.ratio=2")

    assert result.exit_code == 2
    assert "there is no follower nobody, there is asha" in result.stderr
    assert "followers.mira.sizing.ratio: none -> 2" in added["changed_rules"]


def test_rules_that_were_in_force_are_said_to_be(journal: Path) -> None:
    result = run(journal, "--set", "followers.asha.sizing.ratio=0.5")

    assert result.exit_code == 0
    assert "the rules asked for are those that were in force" in result.stderr


def test_a_less_kind_market_alone_is_a_what_if(journal: Path) -> None:
    found = document(journal, "--slippage-ticks", 2, "--latency-ms", 20, "--reject-rate", 0.1, "--seed", 3)

    assert found["changed_rules"] == []
    assert found["results"][1]["model"] | {"fills": ""} == {
        "fills": "",
        "slippage_ticks": 2,
        "reject_rate": 0.1,
        "latency_ms": 20,
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("ravi:mode=capital", "followers.ravi.sizing.mode capital needs the leader's capital, which"),
        ("ravi:mode=capital,capital=500000", "followers.ravi.sizing.mode capital needs the leader's capital, which"),
        ("ravi:mode=risk,risk_percent=1", "followers.ravi.sizing.mode risk needs a capital, which"),
    ],
)
def test_a_size_by_a_capital_that_nobody_knows_is_refused_at_once(journal: Path, added: str, said: str) -> None:
    for source in (EXAMPLE, journal):
        result = run(source, "--add-follower", added)

        assert result.exit_code == 2
        assert result.stderr.startswith(said)
        assert result.stderr.count("\n") == 1


def test_another_mode_of_sizing_needs_no_word_about_the_keys_of_the_one_before(
    write_config: WriteConfig, journal: Path
) -> None:
    other = write_config('\n[followers.asha.sizing]\nmode = "lots"\nlots = 2\n\n[copy]\nmarket_hours = "off"\n')
    to_ratio = ("--set", "followers.asha.sizing.mode=ratio")
    to_lots = ("--set", "followers.asha.sizing.mode=lots", "--set", "followers.asha.sizing.lots=1")

    assert run(journal, "--config", other, *to_ratio).exit_code == 0
    assert run(journal, *to_lots).exit_code == 0
    idle = run(journal, "--set", "followers.asha.sizing.lots=1")

    assert idle.exit_code == 2
    assert idle.stderr == (
        'followers.asha.sizing.lots has no effect with mode = "ratio": leave it out, or choose the mode that needs it '
        "(--set)\n"
    )


def test_a_size_by_a_capital_that_is_known_is_played(tmp_path: Path) -> None:
    """The leader's capital and asha's are recorded, ravi's is given."""
    rules_in_force = desk("asha:ratio=0.5")
    started, *rest = example()
    books = [
        BookRead(started.at, name, (), (), Funds(Decimal(1_000_000), Decimal(1_000_000))) for name in ("asha", "leader")
    ]
    journal = write(tmp_path / "j.db", decided([started, *books, *rest], rules_in_force))
    risk = ("--add-follower", "ravi:mode=risk,risk_percent=10,capital=500000")

    assert run(EXAMPLE, *risk).exit_code == 0
    played = document(journal, *risk, "--set", "followers.asha.sizing.mode=capital")
    lots = {each["account"]: each["lots"] for each in played["results"][1]["accounts"]}
    assert lots["asha"] > 0
    assert lots["ravi"] > 0


def test_a_configured_size_by_capital_can_be_set_otherwise(write_config: WriteConfig) -> None:
    write_config("\n[followers.asha.sizing]\nmode = 'capital'\n\n[copy]\nmarket_hours = 'off'\n")

    assert run(EXAMPLE).exit_code == 2
    found = document(EXAMPLE, "--set", "followers.asha.sizing.mode=ratio")
    assert [each["result"] for each in found["results"]] == ["what_if"]
    assert "not played as configured" in " ".join(found["notes"])


def test_an_exit_that_was_refused_and_repeated_shows_both_apart() -> None:
    """With this seed the exit of 150 is refused once, and goes out again."""
    market = ("--reject-rate", 0.4, "--seed", 4)

    (row,) = [
        row["what_if"]
        for row in document(EXAMPLE, *market)["orders"]
        if row["leader_order_id"] == "362261123000007" and row["account"] == "follower"
    ]

    assert (row["quantity"], row["refused_quantity"], row["filled_quantity"]) == (150, 150, 150)
    assert "150 at 99, 150 refused" in run(EXAMPLE, *market).stdout


@pytest.mark.parametrize("frames", [False, True])
def test_a_less_kind_market_is_said_in_text_page_and_json(journal: Path, tmp_path: Path, frames: bool) -> None:
    out = tmp_path / "out.html"
    market = ("--slippage-ticks", 2, "--latency-ms", 20, "--reject-rate", 0.1, "--seed", 3)

    result = run(EXAMPLE if frames else journal, *market, "--report", out)
    found = document(EXAMPLE if frames else journal, *market)

    said = (
        "like the leader's, 2 ticks worse than at the leader's prices, 10 % of the orders are refused by chance (seed 3),"
        " answers take 20 ms and nothing fills before"
    )
    assert found["results"][1]["model"]["fills"] == said
    assert f"what if: filled on paper: a follower's order fills {said}\n" in result.stderr
    assert escape(said) in out.read_text()


def test_frames_alone_need_no_configuration() -> None:
    result = run(EXAMPLE)

    assert result.exit_code == 0, result.stderr
    assert "one follower, called follower, at ratio 1" in result.stderr
    assert "300 at 107" in result.stdout


@pytest.mark.parametrize(
    ("other", "chosen"),
    [
        ({}, "MASTER"),
        ({"expiry": date(2026, 12, 5)}, "NIFTY 29 DEC 25000 CALL"),
        ({"strike": Decimal(25100)}, "NIFTY 29 DEC 25000 CALL"),
        ({"option_type": "PE"}, "NIFTY 29 DEC 25000 CALL"),
        ({"lot_size": 65}, "NIFTY 29 DEC 25000 CALL"),
    ],
)
def test_the_master_is_believed_where_it_is_of_the_frames_contract(other: dict[str, Any], chosen: str) -> None:
    told = Instrument(
        Security("NSE_FNO", "40001"),
        "MASTER",
        75,
        Decimal("0.05"),
        expiry=date(2026, 12, 29),
        strike=Decimal("25000.00"),
        option_type="CE",
    )
    master = replace(told, **other)

    read = [
        event.instrument.symbol
        for event in frames.events(frames.read(EXAMPLE), lambda security: master if security == told.security else None)
        if isinstance(event, InstrumentRead) and event.instrument.security == told.security
    ]

    assert read == [chosen]


def test_bare_frames_are_read_without_the_times_at_which_they_were_logged(tmp_path: Path) -> None:
    bare, orders = tmp_path / "bare.jsonl", tmp_path / "orders.jsonl"
    rows = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    bare.write_text("".join(json.dumps({"Data": row["Data"], "Type": "order_alert"}) + "\n" for row in rows))
    orders.write_text("".join(json.dumps(row["Data"]) + "\n" for row in rows))

    results = [document(path)["results"][0]["accounts"] for path in (EXAMPLE, bare, orders)]

    assert results[0] == results[1] == results[2]


def test_a_file_that_is_neither_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy low\n")

    result, absent = run(path), run(tmp_path / "nowhere.db")

    assert (result.exit_code, absent.exit_code) == (2, 2)
    assert result.stderr.startswith(f"{path}:1: not JSON; no frame names its client")
    assert result.stderr.count("\n") == 1
    assert "no such file" in absent.stderr


def test_each_line_that_is_not_played_is_told_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    lines = EXAMPLE.read_text().splitlines()
    other = lines[3].replace('"1000000001"', '"1000000777"')
    broken = lines[4].replace('"quantity": ', '"quantity": -')
    path.write_text("\n".join(["42", *lines[:3], other, broken, *[lines[5][:200]] * 7, *lines[6:]]) + "\n")

    result = run(path, "--json")
    found = json.loads(result.stdout)

    why = [(each["line"], each["why"]) for each in found["passed_over"]]
    assert why[0] == (1, "a heartbeat")
    assert why[1] == (5, "the order belongs to another client id")
    assert why[2][0] == 6
    assert "quantity" in why[2][1]
    assert why[3:] == [(number, "not JSON") for number in range(7, 14)]
    said = f"10 of {len(lines) + 7} lines are passed over: a heartbeat (line 1); the order belongs to another client id"
    assert result.exit_code == 0
    assert said in result.stderr
    assert "not JSON (lines 7, 8, 9, 10, 11 and 2 more)" in result.stderr
    assert found["notes"][0].startswith(said)
    assert run(path).stderr.count("passed over") == 1
    assert document(EXAMPLE)["passed_over"] == []


def test_a_file_of_frames_of_which_none_can_be_read_says_why_of_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_text('{"Data": {"clientId": "1000000001", "orderNo": "1"}, "logged_at": "2026-11-23 10:00:00"}\n')

    result = run(path)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"{path}:1: quantity is missing or 0; no line is a frame that can be read")


def test_a_mark_of_the_byte_order_and_odd_line_ends_within_a_frame_are_read(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    text = EXAMPLE.read_text().replace('"remarks": "NR"', '"remarks": "N\u2028R"')
    path.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")

    assert document(path)["results"][0]["accounts"] == document(EXAMPLE)["results"][0]["accounts"]


# --- Which part --------------------------------------------------------------------------


def test_until_an_order_stops_there_and_shows_the_state(journal: Path) -> None:
    found = document(journal, "--until", "362261123000002")

    assert found["until"]["leader_order"]["only_exits"] is True
    assert found["until"]["position"]["leader"] == 300
    assert [row["leader_order_id"][-1] for row in found["orders"]] == ["1", "1", "2", "2"]


def test_until_a_copy_s_own_order_works_too_and_an_unknown_one_is_said(journal: Path) -> None:
    state = document(journal, "--until", "362261123000002")["until"]
    copied = state["copies"][0]["orders"][0]["correlation_id"]

    assert document(journal, "--until", copied)["until"]["leader_order"]["order_id"] == "362261123000002"
    with Journal.open(journal, read_only=True) as opened_journal:
        recorded = next(row.order_id for row in opened_journal.facts(kinds=["Accepted"]))
    for name in (copied, recorded):
        for options in ((), ("--set", "followers.asha.sizing.ratio=1"), ("--set", "followers.asha.sizing.ratio=0.1")):
            until = document(journal, "--until", name, *options)["until"]
            assert (
                until["leader_order"]["order_id"]
                == document(journal, "--until", name)["until"]["leader_order"]["order_id"]
            )
    missing = run(journal, "--until", "555")
    assert missing.exit_code == 1
    assert "order 555 does not occur" in missing.stderr


def test_a_part_of_the_day_by_times(journal: Path) -> None:
    morning = document(journal, "--date", "2026-11-23", "--until", "10:00")
    whole = document(journal, "--since", "2026-11-23")

    assert len(morning["orders"]) == 4
    assert len(whole["orders"]) == 16
    assert run(journal, "--date", "yesterday").exit_code == 2


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize("window", [("--date", "2020-01-01"), ("--until", "00:01"), ("--since", "2030-01-01")])
def test_a_time_without_events_is_a_misuse_and_no_proof(
    journal: Path, window: tuple[str, str], check: tuple[str, ...]
) -> None:
    result = run(journal, *window, *check)

    assert result.exit_code == 2
    assert result.stdout == ""
    holds = "it holds 2026-11-23 09:20 to 2026-11-23 11:30"
    assert result.stderr == f"{journal}: nothing is recorded in the time asked for; {holds}\n"


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_an_empty_journal_is_no_proof(tmp_path: Path, check: tuple[str, ...]) -> None:
    result = run(write(tmp_path / "empty.db", []), *check)

    assert result.exit_code == 2
    assert "nothing is recorded yet" in result.stderr


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (("--since", "11:00", "--until", "10:00"), "--since 11:00 --until 10:00 leaves no time"),
        (("--since", "2026-11-24", "--until", "2026-11-23"), "leaves no time"),
        (("--date", "2026-11-23", "--since", "2026-11-24T10:00"), "mean different days"),
        (("--date", "2026-11-23", "--until", "2026-11-22"), "mean different days"),
    ],
)
def test_times_that_contradict_each_other_are_refused(journal: Path, window: tuple[str, ...], said: str) -> None:
    for check in ((), ("--check",)):
        result = run(journal, *window, *check)

        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_time_of_day_is_of_the_day_that_the_other_end_names(journal: Path) -> None:
    one = document(journal, "--since", "2026-11-23T09:00", "--until", "10:00")
    other = document(journal, "--since", "09:00", "--until", "2026-11-23T10:00")

    assert one["orders"] == other["orders"]
    assert len(one["orders"]) == 4


# --- Outputs -------------------------------------------------------------------------------


def test_csv_has_the_orders_with_both_outcomes_as_columns(journal: Path) -> None:
    result = run(journal, "--set", "followers.asha.sizing.ratio=1", "--csv")

    rows = list(csv.DictReader(StringIO(result.stdout)))
    assert len(rows) == 16
    assert (rows[1]["recorded_quantity"], rows[1]["what_if_quantity"], rows[1]["differs"]) == ("150", "300", "true")


class Page(HTMLParser):
    """The tables of a page as rows of cells, and everything that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def test_the_page_needs_nothing_else_and_has_the_document_s_numbers(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    arguments = (journal, "--set", "followers.asha.sizing.ratio=1", "--latency-ms", 15)

    found = document(*arguments, "--report", out)

    text = out.read_text()
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", text)
    assert text.count("<svg") >= 4
    shown = [row for row in page.rows if "asha" in row]
    for result in found["results"]:
        asha = next(row for row in result["accounts"] if row["account"] == "asha")
        money = [f"{asha[key]:.2f}" for key in ("traded_value", "largest_exposure", "largest_margin", "realized")]
        assert any(row[-4:] == money for row in shown)
        for held in result["instruments"]:
            if held["account"] == "asha":
                assert any(held["instrument"] in row and f"{held['realized']:.2f}" == row[-1] for row in shown)


def test_a_broker_s_words_cannot_become_markup(tmp_path: Path) -> None:
    frames, out = tmp_path / "x.jsonl", tmp_path / "out.html"
    frames.write_text(EXAMPLE.read_text().replace("NIFTY 29 DEC 25000 CALL", "<script>alert(1)</script>"))

    assert run(frames, "--report", out).exit_code == 0
    assert "<script" not in out.read_text()


def test_a_page_may_take_the_place_of_an_earlier_one_and_of_nothing_else(journal: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "out.html", tmp_path / "notes.html"
    notes.write_text("<!doctype html>\n<title>mine</title>\n")

    assert run(journal, "--report", out).exit_code == 0
    out.chmod(0o644)
    assert run(journal, "--report", out).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    refused = run(journal, "--report", notes)

    assert refused.exit_code == 2
    assert (
        refused.stderr
        == f"--report: {notes} exists and is no page of an earlier replay; name another file for the page\n"
    )
    assert notes.read_text() == "<!doctype html>\n<title>mine</title>\n"
    assert run(journal, "--report", tmp_path / "none" / "out.html").exit_code == 2


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("copytrader.db", "is the journal"),
        ("copytrader.db-wal", "is a part of the journal"),
        ("copytrader.db-shm", "is a part of the journal"),
        ("copytrader.instruments.db", "is the instrument master"),
        ("copytrader.toml", "is the configuration"),
        ("link.html", "is the journal"),
        ("day.jsonl", "is the source of the replay"),
    ],
)
def test_a_page_never_takes_the_place_of_what_is_needed(
    write_config: WriteConfig, journal: Path, tmp_path: Path, name: str, what: str
) -> None:
    write_config()
    source, out = tmp_path / "day.jsonl", tmp_path / name
    source.write_text(EXAMPLE.read_text())
    (tmp_path / "link.html").symlink_to(journal)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    result = run(source, "--report", out)

    assert result.exit_code == 2
    assert result.stderr == f"--report: {out} {what}; name another file for the page\n"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_files_beside_a_journal_that_is_named_are_safe_without_a_configuration(journal: Path) -> None:
    beside = journal.with_name(journal.name + "-wal")

    assert run(journal, "--report", beside).exit_code == 2
    assert run(journal, "--report", journal).exit_code == 2
    assert not beside.exists()


def test_at_a_speed_it_is_told_line_by_line_at_that_pace() -> None:
    began = time.monotonic()
    result = run(EXAMPLE, "--speed", 20_000)
    took = time.monotonic() - began

    assert "09:20:01 leader placed BUY 300 NIFTY 29 DEC 25000 CALL LIMIT 105" in result.stderr
    assert "11:30:06   follower: filled 150 at 116" in result.stderr
    length = (example()[-1].at - example()[0].at).total_seconds() / 20_000
    assert length <= took < length + 10


def test_the_pace_waits_as_long_as_the_events_were_apart() -> None:
    now, asked = [0.0], []

    def idle() -> None:
        asked.append(now[0])
        now[0] += 0.5

    pace = Pace(10, idle, lambda: now[0])
    first = datetime(2026, 11, 23, 10, tzinfo=IST)
    pace.wait(first)
    pace.wait(first + timedelta(seconds=30))

    assert asked == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_the_clock_runs_between_two_events_and_stops_at_the_next() -> None:
    now, times = [0.0], []
    first = datetime(2026, 11, 23, 10, tzinfo=IST)

    def idle() -> None:
        times.append(pace.now)
        now[0] += 0.5

    pace = Pace(10, idle, lambda: now[0])
    pace.wait(first)
    pace.wait(first + timedelta(seconds=12))

    assert times == [first + timedelta(seconds=seconds) for seconds in (0, 5, 10)]
    assert pace.now == first + timedelta(seconds=12)


def test_whoever_watches_is_asked_also_while_events_come_faster_than_they_are_played() -> None:
    now, asked = [0.0], []
    pace = Pace(1000, lambda: asked.append(now[0]), lambda: now[0])
    first = datetime(2026, 11, 23, 10, tzinfo=IST)
    for number in range(4):
        pace.wait(first + timedelta(seconds=number))
        now[0] += 0.08

    assert asked == [0.16]


@pytest.mark.parametrize("slipped", [False, True])
def test_an_event_is_not_in_the_state_shown_before_its_time_has_come(journal: Path, slipped: bool) -> None:
    request = Request(journal, model=FillModel(slippage_ticks=1) if slipped else None)
    shown: list[State] = [State()]
    early: list[datetime] = []

    def before(at: datetime) -> None:
        early.extend(at for order in shown[0].orders.values() if order.first_seen >= at and at not in known)
        known.add(at)

    known: set[datetime] = set()
    with opened(request) as replay:
        assert replay.on_paper is slipped
        for step in replay.steps(before):
            if step.track is replay.tracks[-1]:
                shown[0] = step.moment.state

    assert early == []
    assert len(known) > 20


def test_the_screen_of_a_replay_says_what_it_is() -> None:
    state, watching = State(), Watching(lambda: datetime(2026, 11, 23, 10, tzinfo=IST))
    theatre = Theatre(desk("asha:ratio=0.5"))
    for step in play_events(example(), [Track(WHAT_IF, theatre.desk, FillModel())]):
        theatre.take(step.moment.event, step.moment.state)
        state = step.moment.state
    how = said(10, on_paper=True)
    lines = [
        "".join(text for text, _ in line)
        for line in page(Known(state, theatre.accounts, watching, "1000000001", replay=how), watching.now(), 100, 30)
    ]

    assert lines[0].startswith("1000000001 to asha: replay, 10 times as fast, on paper ")
    assert next(line for line in lines if line.startswith("asha")).endswith("  replay")
    theatre.accounts["leader"].connected = False
    lost = page(Known(state, theatre.accounts, watching, "1000000001", replay=how), watching.now(), 120, 30)[0]
    assert "".join(text for text, _ in lost).startswith(f"{how}: the leader's stream is lost")
    assert said(1, on_paper=False) == "replay, at its own pace"


def test_lines_begin_by_saying_what_is_played(journal: Path) -> None:
    assert run(EXAMPLE, "--speed", 1_000_000).stderr.startswith("replay, 1,000,000 times as fast, on paper\n")
    assert run(journal, "--speed", 1_000_000).stderr.startswith("replay, 1,000,000 times as fast\n")


# --- No connection -------------------------------------------------------------------------


def test_offline_refuses_every_way_out(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket() as plain,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        port = server.getsockname()[1]
        ways: list[Callable[[], object]] = [
            lambda: socket.create_connection(("127.0.0.1", port), 1),
            lambda: plain.connect_ex(("127.0.0.1", port)),
            lambda: datagrams.sendto(b"x", ("127.0.0.1", port)),
            lambda: socket.getaddrinfo("localhost", port),
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1),
        ]
        with offline():
            for way in ways:
                with pytest.raises(Failure, match="opens no connection"):
                    way()
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_a_replay_that_tried_to_connect_would_be_stopped(monkeypatch: pytest.MonkeyPatch, journal: Path) -> None:
    def played(*_: object, **__: object) -> None:
        socket.create_connection(("127.0.0.1", 9), 1)

    monkeypatch.setattr(command, "_played", played)

    result = run(journal)

    assert result.exit_code == 6
    assert "a replay opens no connection" in result.stderr
