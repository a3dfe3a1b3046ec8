from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from copytrader.audit import plots
from copytrader.audit.figures import Spread, spread
from copytrader.core.facts import (
    Alert,
    Connected,
    Disconnected,
    Level,
    Noticed,
    Refused,
    Skip,
    Stopped,
    Unanswered,
    Verb,
)
from copytrader.core.model import LEADER, Position, Product, RefusalClass, Side, SkipReason
from tests.audit.journals import CALL, NOON, D, Writer, alter, audit, name


def report(path: Path, *arguments: str) -> dict[str, Any]:
    done = audit(path, "report", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def asha(path: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = report(path, *arguments)["followers"][0]
    return found


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], None),
        ([None], None),
        ([7.0], Spread(1, 7.0, 7.0, 7.0, 7.0)),
        ([float(number) for number in range(1, 101)], Spread(100, 50.0, 95.0, 99.0, 100.0)),
        ([3.0, 1.0, None, 2.0], Spread(3, 2.0, 3.0, 3.0, 3.0)),
    ],
)
def test_a_spread_is_by_nearest_rank(values: list[float | None], wanted: Spread | None) -> None:
    assert spread(values) == wanted


def test_the_last_day_on_record_is_reported_when_no_day_is_named(writer: Writer) -> None:
    writer.copied(1)

    assert report(writer.close())["period"]["since"] == "2026-11-23T00:00:00+05:30"


def test_orders_and_slippage_name_the_day_of_expiry(writer: Writer) -> None:
    """A month has several, and the symbol is the same for all of them."""
    writer.copied(1, "110.10")
    path = writer.close()

    orders, slippage = audit(path, "report").stdout.split("\nOrders\n")[1].split("\nSlippage\n")

    assert "BUY 150 NIFTY-29Dec2026-25000-CE LIMIT 110" in orders
    assert "NIFTY-29Dec2026-25000-CE" in slippage
    assert "NIFTY-Dec2026" not in orders + slippage


@pytest.mark.parametrize("command", [["report"], ["report", "--json"], ["--date", "2026-11-23"], ["--kind", "Skip"]])
def test_a_reason_that_somebody_altered_is_shown_as_it_stands(writer: Writer, command: list[str]) -> None:
    writer.skipped(1)
    refused = Skip("asha", "2", SkipReason.REFUSED, "no words", refusal=RefusalClass.OTHER)
    writer.led("2", refused)
    path = writer.close()
    alter(
        path,
        """UPDATE facts SET reason = 'LATE', body = replace(body, '"STALE"', '"LATE"') WHERE reason = 'STALE'""",
        """UPDATE facts SET body = replace(body, '"refusal":"OTHER"', '"refusal":"MOOD"') WHERE kind = 'Skip'""",
    )

    done = audit(path, *command)

    assert (done.exit_code, done.exception) == (0, None)
    assert "LATE" in done.stdout or "cannot be read" in done.stdout


def test_latency_is_given_for_each_stage(writer: Writer) -> None:
    writer.copied(1, times=True)

    latency = asha(writer.close())["latency"]

    assert {stage: each["p50"] for stage, each in latency.items()} == {
        "decided": 1.0,
        "durable": 2.0,
        "sent": 1.0,
        "answered": 20.0,
        "filled": 1976.0,
        "total": 24.0,
    }


def test_what_is_closed_today_counts_at_the_price_of_the_day_it_was_opened(writer: Writer) -> None:
    writer.copied(1, "100")
    writer.now = NOON + timedelta(days=1)
    writer.start()
    writer.positions(Position(CALL, Product.MARGIN, 75))
    writer.copied(2, "110", side=Side.SELL)
    path = writer.close()

    assert asha(path, "--date", "2026-11-24")["realized"] == 750
    assert asha(path, "--date", "2026-11-23")["realized"] == 0
    assert asha(path, "--since", "2026-11-23", "--until", "2026-11-24")["realized"] == 750


def test_what_the_broker_shows_flat_in_the_morning_was_not_carried_over(writer: Writer) -> None:
    writer.copied(1, "100")
    writer.now = NOON + timedelta(days=1)
    writer.start()
    writer.positions()
    writer.copied(2, "110", side=Side.SELL)
    writer.copied(3, "108")

    assert asha(writer.close(), "--date", "2026-11-24")["realized"] == 150


def test_uptime_ends_with_the_last_fact_of_a_process_that_was_killed(writer: Writer) -> None:
    writer.skipped(1)
    killed = writer.now
    writer.now += timedelta(hours=1)
    begun = writer.now
    writer.start()
    writer.record(Stopped(writer.now))
    stopped = writer.now

    found = report(writer.close())

    wanted = (killed - timedelta(seconds=1) - NOON) + (stopped - timedelta(seconds=1) - begun)
    assert found["runs"] == 2
    assert found["uptime_seconds"] == wanted.total_seconds()


def test_a_process_that_does_not_copy_is_no_uptime(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db")
    writer.start(copying=False)
    writer.record(Stopped(writer.now))

    assert report(writer.close())["runs"] == 0


def test_disconnects_are_counted_with_the_time_until_the_stream_was_back(writer: Writer) -> None:
    writer.record(Connected(writer.now, LEADER))
    writer.record(Disconnected(writer.now, LEADER, "reset"))
    writer.now += timedelta(seconds=9)
    writer.record(Connected(writer.now, LEADER))

    assert report(writer.close())["connections"] == [{"account": LEADER, "disconnects": 1, "seconds": 10.0}]


def test_refusals_are_told_in_the_broker_s_words_and_in_plain_ones(writer: Writer) -> None:
    skip = Skip("asha", "7", SkipReason.INSUFFICIENT_MARGIN, "add funds", name(1), RefusalClass.MARGIN)
    writer.led("7", skip)
    writer.record(Refused(writer.now, "asha", name(2), Verb.MODIFY, RefusalClass.TICK, "DH-905", "tick size"))

    found = asha(writer.close())

    assert found["refused"] == 2
    assert [(each["refusal"], each["words"]) for each in found["refusals"]] == [
        ("MARGIN", "add funds"),
        ("TICK", "tick size"),
    ]
    assert found["refusals"][0]["meaning"].startswith("The account has too little money")


def test_an_outcome_that_is_still_unknown_is_counted(writer: Writer) -> None:
    writer.record(Unanswered(writer.now, "asha", name(1), Verb.PLACE))

    found = asha(writer.close())

    assert (found["unanswered"], found["unknown"]) == (1, 1)


def test_a_period_of_nothing_but_a_dry_run_shows_it_and_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db")
    writer.start(dry_run=True)
    writer.copied(1)
    path = writer.close()

    found = report(path)

    assert (found["dry_run"], found["left_out"]) == (True, 0)
    assert (found["followers"][0]["placed"], found["followers"][0]["units"]) == (1, 75)
    assert "2026-11-23, on paper" in audit(path, "report").stdout


def test_what_was_on_paper_never_enters_the_figures_of_a_live_run(tmp_path: Path) -> None:
    def day(name: str, *, rehearsed: bool) -> Path:
        writer = Writer(tmp_path / name)
        if rehearsed:
            writer.start(dry_run=True)
            writer.instrument()
            writer.copied(1, "120")  # the same name as below
            writer.copied(3, "90", side=Side.SELL)
            writer.skipped(4)
            writer.record(Noticed(writer.now, Level.WARNING, "x"), Alert(Level.WARNING, "x", "asha"))
        writer.now = NOON + timedelta(hours=1)
        writer.start()
        writer.instrument()
        writer.copied(1, "110.15")
        writer.copied(2, "111", side=Side.SELL)
        return writer.close()

    rehearsed, plain = report(day("a.db", rehearsed=True)), report(day("b.db", rehearsed=False))

    for key in ("followers", "leader", "runs", "uptime_seconds", "connections", "dry_run"):
        assert rehearsed[key] == plain[key], key
    for key in ("orders", "copies", "skips", "slippages", "latencies", "alerts"):
        assert len(rehearsed[key]) == len(plain[key]), key
    assert (rehearsed["left_out"], plain["left_out"]) == (2, 0)
    assert "2 copies of a dry run" in audit(tmp_path / "a.db", "report").stdout


def test_of_several_dry_runs_the_last_is_shown(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db")
    for _ in range(2):
        writer.start(dry_run=True)
        writer.copied(1)

    found = report(writer.close())

    assert (found["dry_run"], found["left_out"], found["followers"][0]["placed"]) == (True, 1, 1)


def test_an_order_on_paper_does_not_show_that_one_of_its_name_exists(writer: Writer) -> None:
    writer.record(Unanswered(writer.now, "asha", name(1), Verb.PLACE))
    writer.start(dry_run=True)
    writer.copied(1)
    writer.start()

    assert asha(writer.close())["unknown"] == 1


def test_a_report_of_one_follower_has_nothing_of_the_others(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "j.db", followers=("asha", "ravi"))
    writer.start()
    writer.skipped(1)
    path = writer.close()

    assert [each["name"] for each in report(path)["followers"]] == ["asha", "ravi"]
    found = report(path, "--follower", "ravi")
    assert [each["name"] for each in found["followers"]] == ["ravi"]
    assert {row["follower"] for row in found["skips"]} == {"ravi"}


def test_many_followers_get_a_row_each(tmp_path: Path) -> None:
    names = [f"follower{number}" for number in range(9)]
    writer = Writer(tmp_path / "j.db", followers=names)
    writer.start()
    writer.skipped(1)

    done = audit(writer.close(), "report")

    lines = [line for line in done.stdout.splitlines() if line.startswith("follower")]
    assert {line.split()[0] for line in lines} >= set(names)


# --- The page ------------------------------------------------------------------------------


def page(writer: Writer, tmp_path: Path) -> str:
    writer.copied(1, "110.15", times=True)
    writer.copied(2, "109.95")
    writer.skipped(3)
    done = audit(writer.close(), "report", "--html", str(tmp_path / "report.html"))
    assert (done.exit_code, done.stdout) == (0, "")
    return (tmp_path / "report.html").read_text()


def test_the_page_needs_nothing_but_itself(writer: Writer, tmp_path: Path) -> None:
    text = page(writer, tmp_path)

    assert "default-src 'none'" in text
    assert not re.findall(r"<(script|link|iframe|img|object|embed|form|base)\b|url\(|@import|https?://| on\w+=", text)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_the_page_has_the_plots_and_the_tables(writer: Writer, tmp_path: Path) -> None:
    text = page(writer, tmp_path)

    for title in ("Orders over time", "Latency", "Slippage by order", "Not copied, by reason"):
        assert f"<h3>{title}" in text
    for title in ("Followers", "Orders", "Not copied", "Latency in milliseconds", "Slippage"):
        assert f"<h2>{title}</h2>" in text
    assert text.count("<svg") == text.count("</svg>") == 4
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_the_page_is_well_formed(writer: Writer, tmp_path: Path) -> None:
    from xml.etree import ElementTree as ET

    text = page(writer, tmp_path)

    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
    for tag in ("table", "tr", "td", "th", "figure", "div"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag


def test_writing_the_page_again_replaces_it(writer: Writer, tmp_path: Path) -> None:
    page(writer, tmp_path)

    assert audit(writer.path, "report", "--html", str(tmp_path / "report.html")).exit_code == 0
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_the_page_and_the_document_are_had_at_once(writer: Writer, tmp_path: Path) -> None:
    writer.copied(1)
    path = writer.close()

    done = audit(path, "report", "--html", str(tmp_path / "report.html"), "--json")

    assert json.loads(done.stdout) == report(path)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_no_other_file_is_replaced_by_a_page(writer: Writer, tmp_path: Path) -> None:
    writer.copied(1, "110.15")
    path = writer.close()
    before = path.read_bytes()

    done = audit(path, "report", "--html", str(path))

    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert path.read_bytes() == before


def test_a_page_cannot_be_written_where_there_is_no_directory(writer: Writer, tmp_path: Path) -> None:
    done = audit(writer.close(), "report", "--html", str(tmp_path / "nowhere" / "r.html"))

    assert done.exit_code == 1


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3.0, 4.0], [0.001, 1000000.0]])
def test_plots_stand_odd_numbers(values: list[float]) -> None:
    from xml.etree import ElementTree as ET

    drawn = (
        plots.histogram(values, [("half", values[0])], "x"),
        plots.columns([("a & <b>", [each]) for each in values], ["s"], "x"),
        plots.rows([("<i>", abs(each)) for each in values], "x"),
    )

    for svg in drawn:
        assert "nan" not in svg and "inf" not in svg
        ET.fromstring(svg)


# --- In the terminal -----------------------------------------------------------------------


def test_the_report_is_text_with_a_table_for_each_matter(writer: Writer) -> None:
    writer.copied(1, "110.15")
    writer.skipped(2)

    done = audit(writer.close(), "--date", "2026-11-23")

    assert done.exit_code == 0
    titles = ("2026-11-23", "Followers", "Orders", "Not copied", "Latency in milliseconds", "Slippage")
    assert [line for line in done.stdout.splitlines() if line in titles] == list(titles)
    assert "75 of 75 at 110.15" in done.stdout and "STALE" in done.stdout
    assert D("11.25") in [D(each) for each in re.findall(r"\d+\.\d+", done.stdout)]
