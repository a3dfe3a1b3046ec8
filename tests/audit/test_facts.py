from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from copytrader.cli import app
from copytrader.core.facts import Alert, BookRead, Level, Refused, Skip, Stopped, Verb
from copytrader.core.model import IST, LEADER, Order, OrderStatus, RefusalClass, SkipReason
from copytrader.journal import Journal
from tests.audit.day import HOSTILE
from tests.audit.journals import NOON, RUN, SHARE, Writer, audit, name, ticket

COLUMNS = ("seq", "cause", "at", "kind", "follower", "leader_order_id", "order_id", "correlation_id", "reason")


def facts(path: Path, *arguments: str) -> list[dict[str, Any]]:
    done = audit(path, "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_journal_without_facts_is_an_empty_list(tmp_path: Path) -> None:
    Journal.open(tmp_path / "j.db").close()

    assert facts(tmp_path / "j.db") == []


def test_a_journal_without_facts_has_an_empty_report_and_nothing_to_verify(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    Journal.open(path).close()

    assert audit(path).exit_code == audit(path, "verify").exit_code == audit(path, "--today").exit_code == 0
    assert audit(path, "report", "--html", str(tmp_path / "r.html")).exit_code == 0


def test_every_fact_has_the_columns_of_the_contract_and_null_where_one_does_not_apply(writer: Writer) -> None:
    writer.copied(1)
    writer.skipped(2)

    found = facts(writer.close())

    assert [tuple(fact)[:9] for fact in found] == [COLUMNS] * len(found)
    assert [fact["seq"] for fact in found] == list(range(1, len(found) + 1))
    assert all(datetime.fromisoformat(fact["at"]).utcoffset() == timedelta(hours=5, minutes=30) for fact in found)
    skip = found[-1]
    assert (skip["kind"], skip["reason"], skip["follower"]) == ("Skip", "STALE", "asha")
    assert skip["order_id"] is None and skip["correlation_id"] is None
    assert skip["summary"] == "order 362261123000002 not copied, STALE: too late"
    assert skip["detail"] == "too late" and skip["cause"] == skip["seq"] - 1


def test_a_session_that_copies_nothing_is_not_told_as_follow(writer: Writer) -> None:
    writer.start()
    writer.start(copying=False)
    writer.record(Stopped(writer.now))

    told = [fact["summary"] for fact in facts(writer.close()) if fact["kind"] in ("Started", "Stopped")][-3:]

    assert told == [
        "follow started, version 1.0, for asha",
        "a command such as halt began, which copies nothing, version 1.0, for asha",
        "the session ended",
    ]


def test_a_fact_also_has_what_is_its_own(writer: Writer) -> None:
    writer.copied(1)

    place = next(fact for fact in facts(writer.close()) if fact["kind"] == "Place")

    assert place["ticket"]["price"] == "110"
    assert place["summary"].startswith("place BUY 75 NIFTY-29Dec2026-25000-CE LIMIT 110 as ct1-asha")


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["--kind", "skip"], {"Skip"}),
        (["--kind", "Skip", "--kind", "Filled"], {"Skip", "Filled"}),
        (["--reason", "stale"], {"Skip"}),
        (["--failed"], {"Alert", "Refused"}),
        (["--order", name(1)], {"Place", "Accepted", "OrderSeen", "Filled", "Ended"}),
        (["--order", "322261123000001"], {"Accepted", "OrderSeen", "Filled", "Ended"}),
        (["--symbol", "reliance"], {"OrderSeen", "Skip"}),
        (["--symbol", "29dec2026-25000"], {"Place", "Sized", "Accepted", "OrderSeen", "Filled", "Ended", "Skip"}),
        (["--symbol", "30Dec2026"], set()),
        (["--symbol", "40001"], set()),
        (["--symbol", "%"], set()),
    ],
)
def test_filters_pick_the_facts_that_fit(writer: Writer, arguments: list[str], kinds: set[str]) -> None:
    writer.copied(1)
    writer.skipped(2)
    writer.instrument(SHARE, "RELIANCE", 1)
    writer.led("9", Skip("asha", "9", SkipReason.FILTERED, "segment"), terms=ticket(10, security=SHARE))
    writer.record(Refused(writer.now, "asha", name(3), Verb.PLACE, RefusalClass.MARGIN, "DH-906", "no money"))
    writer.record(
        BookRead(writer.now, LEADER, ()), Alert(Level.CRITICAL, "serious"), Alert(Level.INFO, "not so serious")
    )

    assert {fact["kind"] for fact in facts(writer.close(), *arguments)} == kinds


def test_all_filters_hold_together(writer: Writer) -> None:
    writer.copied(1)
    writer.skipped(2)
    path = writer.close()

    assert len(facts(path, "--kind", "Skip", "--follower", "asha", "--symbol", "nifty", "--date", "2026-11-23")) == 1
    assert facts(path, "--kind", "Skip", "--follower", "asha", "--symbol", "nifty", "--date", "2026-11-24") == []


def test_the_symbol_of_an_order_that_only_the_book_showed_is_found(writer: Writer) -> None:
    order = Order("7", ticket(150), OrderStatus.TRADED, NOON, NOON, 150)
    writer.record(BookRead(writer.now, LEADER, (order,)), Skip("asha", "7", SkipReason.STALE, "late"))
    path = writer.close()

    assert [fact["kind"] for fact in facts(path, "--symbol", "25000-CE")] == ["Skip"]
    assert [fact["kind"] for fact in facts(path, "--symbol", "25000-CE", "--date", "2026-11-23")] == ["Skip"]


def test_pages_follow_one_another_without_gap_or_repetition(writer: Writer) -> None:
    for number in range(30):
        writer.skipped(number)
    path = writer.close()
    every = [fact["seq"] for fact in facts(path)]

    back = [fact["seq"] for fact in facts(path, "--limit", "20")]
    before = [fact["seq"] for fact in facts(path, "--limit", "20", "--before", str(back[0]))]
    after = [fact["seq"] for fact in facts(path, "--limit", "20", "--after", str(before[-1]))]

    assert every[-40:] == before + back
    assert after == back


def test_the_times_of_a_period_include_the_first_and_leave_out_the_last(writer: Writer) -> None:
    for number in range(10):
        writer.skipped(number)
    path = writer.close()
    every = facts(path)

    found = facts(path, "--since", every[4]["at"][:19], "--until", every[8]["at"][:19])

    assert [fact["seq"] for fact in found] == [fact["seq"] for fact in every[4:8]]
    assert len(facts(path, "--since", "2026-11-23", "--until", "2026-11-23")) == len(every)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "Skipped"], "--kind 'Skipped' is unknown; choose from Accepted"),
        (["--reason", "WHY"], "--reason 'WHY' is unknown; choose from ABSENT"),
        (["--date", "23.11.2026"], "--date must be a day as 2026-11-23, was '23.11.2026'"),
        (["--since", "ten"], "--since must be a day as"),
        (["--since", "10:00", "--until", "09:00"], "--until must be after --since"),
        (["--since", "10:00"], "--since 10:00 is still to come: it is 2026-11-24 08:30; name a day too"),
        (["--today", "--date", "2026-11-23"], "exclude each other"),
    ],
)
def test_a_mistake_in_a_filter_is_one_line_and_wrong_usage(
    writer: Writer, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copytrader.session.now", lambda: datetime(2026, 11, 24, 8, 30, tzinfo=IST))
    done = audit(writer.close(), *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["verify"], ["report"], ["backup", "copy.db"]])
def test_a_journal_that_is_named_and_not_there_is_wrong_usage(tmp_path: Path, command: list[str]) -> None:
    done = audit(tmp_path / "nowhere.db", *command)

    assert done.exit_code == 2
    assert done.stderr == f"--journal {tmp_path}/nowhere.db: there is no such file; name a journal\n"


def test_a_configured_journal_that_is_not_there_yet_is_said(write_config: Callable[..., Path]) -> None:
    path = write_config()

    done = RUN.invoke(app, ["audit", "--config", str(path)])

    assert done.exit_code == 1
    assert done.stderr == f"{path.parent}/copytrader.db: there is no journal yet; `copytrader follow` creates it\n"


# --- Hostile text --------------------------------------------------------------------------


def hostile(writer: Writer) -> Path:
    """A journal in which every text that comes from outside is hostile."""
    text = f"=cmd|'/c calc'!A1 {HOSTILE}"
    writer.instrument(SHARE, text, 1)
    writer.record(
        BookRead(writer.now, LEADER, (Order(text, ticket(security=SHARE), OrderStatus.REJECTED, note=text),)),
        Skip("asha", text, SkipReason.REFUSED, text, refusal=RefusalClass.OTHER),
        Alert(Level.CRITICAL, text, "asha"),
    )
    writer.record(Refused(writer.now, "asha", "ct1-x", Verb.MODIFY, RefusalClass.OTHER, text, text))
    return writer.close()


def is_harmless(text: str) -> bool:
    return not any((ord(letter) < 32 and letter != "\n") or letter in "\x7f\x9b\u202e\u2066" for letter in text)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--date", "2026-11-23"], ["--csv"], ["sql", "SELECT * FROM skips"], ["sql", "SELECT body FROM facts"]],
)
def test_hostile_text_cannot_steer_a_terminal(writer: Writer, arguments: list[str]) -> None:
    done = audit(hostile(writer), *arguments)

    assert done.exit_code == 0
    assert "DROP TABLE facts" in done.stdout
    assert is_harmless(done.stdout) and is_harmless(done.stderr)


def test_explaining_a_hostile_order_cannot_steer_a_terminal(writer: Writer) -> None:
    path = hostile(writer)

    done = audit(path, "explain", f"=cmd|'/c calc'!A1 {HOSTILE}")

    assert done.exit_code == 0, done.stderr
    assert is_harmless(done.stdout)


def test_hostile_text_is_no_formula_in_a_spreadsheet(writer: Writer, tmp_path: Path) -> None:
    path = hostile(writer)
    assert audit(path, "export", str(tmp_path / "out")).exit_code == 0
    texts = [file.read_text() for file in sorted((tmp_path / "out").glob("*.csv"))]
    texts += [audit(path, *query, "--csv").stdout for query in ([], ["sql", "SELECT detail, 1 AS n FROM skips"])]

    cells = [cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row]

    assert any("cmd|" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+")) or (cell.startswith("-") and "cmd" in cell)]


def test_hostile_text_stays_itself_in_json(writer: Writer) -> None:
    found = facts(hostile(writer), "--kind", "Skip")

    assert found[0]["detail"].endswith(HOSTILE)


def test_hostile_text_is_text_on_the_page(writer: Writer, tmp_path: Path) -> None:
    assert audit(hostile(writer), "report", "--html", str(tmp_path / "r.html")).exit_code == 0

    page = (tmp_path / "r.html").read_text()

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page and "javascript:" not in page
    assert is_harmless(page)


def test_hostile_text_in_a_filter_asks_for_itself_only(writer: Writer) -> None:
    path = hostile(writer)

    assert facts(path, "--order", "' OR 1=1 --") == []
    assert audit(path, "--follower", "x' OR '1'='1").exit_code == 2
    assert facts(path, "--symbol", "' OR 1=1 --") == []
    assert [fact["kind"] for fact in facts(path, "--symbol", "DROP TABLE")] == ["Skip"]


@pytest.mark.parametrize("command", [[], ["--today"], ["--json"], ["report"]])
def test_a_follower_that_nobody_knows_is_refused(writer: Writer, command: list[str]) -> None:
    done = audit(writer.close(), *command, "--follower", "nobody")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "--follower 'nobody' is unknown; choose from asha\n"


def test_a_follower_that_is_configured_is_known_before_anything_is_recorded_of_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "copytrader.db", followers=())
    writer.start()
    writer.close()
    config = tmp_path / "copytrader.toml"
    config.write_text(
        'journal = "copytrader.db"\n[leader]\nclient_id = "1000000001"\n'
        '[followers.ravi]\nclient_id = "1000000002"\nlimits.unlimited = true\n'
    )

    known = RUN.invoke(app, ["audit", "--config", str(config), "--follower", "ravi"])
    assert known.exit_code == 0, known.stderr
    assert RUN.invoke(app, ["audit", "--config", str(config), "--follower", "asha"]).exit_code == 2
