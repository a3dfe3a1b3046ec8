from __future__ import annotations

import json
import re
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from copytrader.core.facts import Alert, BookRead, Filled, Level, Noticed, OrderSeen, Skip, Source
from copytrader.core.model import LEADER, Order, OrderStatus, Security, Side, SkipReason
from copytrader.journal import Journal
from copytrader.journal.views import INDEXES, VIEWS
from tests.audit.journals import NOON, SHARE, D, Writer, audit, name, ticket

ROOT = Path(__file__).parents[2]
RECIPES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
CANNED: dict[str, dict[str, str]] = json.loads((ROOT / "examples/datasette.json").read_text())["databases"][
    "copytrader"
]["queries"]


def rows(path: Path, sql: str) -> list[dict[str, Any]]:
    done = audit(path, "sql", sql, "--json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def day(writer: Writer) -> Path:
    writer.copied(1, "110.15", times=True)
    writer.copied(2, "110.00")
    writer.skipped(3)
    return writer.close()


# --- The views -----------------------------------------------------------------------------


def test_the_views_are_listed(writer: Writer) -> None:
    done = audit(writer.close(), "sql")

    assert set(VIEWS) < set(done.stdout.split())


def test_every_view_is_on_the_page_and_has_its_columns(writer: Writer) -> None:
    page = (ROOT / "docs/audit.md").read_text()
    for view in VIEWS:
        assert f"| `{view}` |" in page


def test_a_leader_order_is_shown_as_best_known(writer: Writer) -> None:
    writer.led("7", terms=ticket(150, price="100"))
    writer.led("7", terms=ticket(150, price="101"), status="MODIFIED")
    writer.led("7", terms=ticket(150, price="99"), status="MOD_REJECTED")
    writer.led("7", terms=ticket(150, price="101"), status="CANCELLED")

    (order,) = rows(writer.close(), "SELECT * FROM orders WHERE day = '2026-11-23'")

    assert (order["price"], order["status"], order["modified"]) == (101.0, "CANCELLED", 1)
    assert (order["symbol"], order["filled_quantity"]) == ("NIFTY-Dec2026-25000-CE", 0)


def test_a_leader_order_that_only_the_book_showed_is_there(writer: Writer) -> None:
    order = Order("7", ticket(150), OrderStatus.TRADED, NOON, NOON, 150, D(110))
    writer.record(
        BookRead(writer.now, LEADER, (order,)),
        Filled(LEADER, "7", "7", "", 150, 150, D(110)),
        Skip("asha", "7", SkipReason.STALE, "late"),
    )
    path = writer.close()

    (order_row,) = rows(path, "SELECT * FROM orders")
    (skip,) = rows(path, "SELECT * FROM skips")
    (fill,) = rows(path, "SELECT * FROM fills")

    assert (order_row["status"], order_row["filled_quantity"], order_row["quantity"]) == ("TRADED", 150, 150)
    assert skip["symbol"] == fill["symbol"] == "NIFTY-Dec2026-25000-CE"
    assert (fill["side"], fill["quantity"]) == ("BUY", 150)


def test_a_copy_has_its_terms_its_answer_and_its_end(writer: Writer) -> None:
    (first, second) = rows(day(writer), "SELECT * FROM copies WHERE day = '2026-11-23'")

    assert (first["order_id"], first["correlation_id"]) == ("322261123000001", name(1))
    assert (first["answer"], first["status"], first["filled_quantity"]) == ("Accepted", "TRADED", 75)
    assert (first["average_price"], second["average_price"]) == (110.15, 110.0)
    assert first["dry_run"] == 0


def test_the_copies_of_a_dry_run_are_marked(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(1)
    writer.start()
    writer.copied(2)

    assert [row["dry_run"] for row in rows(writer.close(), "SELECT dry_run FROM copies ORDER BY seq")] == [1, 0]


@pytest.mark.parametrize("dry_first", [True, False])
def test_a_copy_on_paper_has_nothing_of_the_live_one_of_its_name(tmp_path: Path, dry_first: bool) -> None:
    writer = Writer(tmp_path / "j.db")
    for dry_run, price in ((dry_first, "120"), (not dry_first, "130")):
        writer.start(dry_run=dry_run)
        writer.instrument()
        writer.copied(1, price)
    path = writer.close()

    for view in ("copies", "fills", "slippage"):
        found = rows(path, f"SELECT average_price, dry_run FROM {view} WHERE follower = 'asha' ORDER BY seq")
        assert [(row["average_price"], row["dry_run"]) for row in found] == [
            (120.0, int(dry_first)),
            (130.0, int(not dry_first)),
        ], view


def terms_of(writer: Writer) -> tuple[int, float]:
    (row,) = rows(writer.close(), "SELECT quantity, price FROM copies")
    return row["quantity"], row["price"]


def test_a_changed_copy_has_the_terms_that_the_broker_took_last(writer: Writer) -> None:
    writer.resting(1, 75)
    writer.changed(1, ticket(150))
    writer.changed(1, ticket(225, price="111"))
    writer.changed(1, ticket(300, price="112"), accepted=False)

    assert terms_of(writer) == (225, 111.0)
    assert "225 open" in audit(writer.path, "report").stdout


def test_a_change_that_the_exchange_refused_after_all_is_not_in_force(writer: Writer) -> None:
    ours = writer.resting(1, 75)
    writer.changed(1, ticket(150))
    writer.changed(1, ticket(150, price="300"))
    refused = Order("322261123000001", ticket(150, price="300"), OrderStatus.MOD_REJECTED, NOON, NOON, 0, D(0), ours)
    writer.record(OrderSeen(writer.now, "asha", refused, Source.STREAM))

    assert terms_of(writer) == (150, 110.0)


def test_a_leader_s_order_is_on_paper_where_nothing_but_a_dry_run_saw_it(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(1)
    writer.copied(2)
    writer.start()
    writer.copied(2)

    assert [row["dry_run"] for row in rows(writer.close(), "SELECT dry_run FROM orders ORDER BY seq")] == [1, 0]


def test_a_journal_of_an_older_program_is_asked_by_the_views_of_this_one(writer: Writer) -> None:
    writer.copied(1)
    path = writer.close()
    connection = sqlite3.connect(path)
    connection.execute("DROP VIEW copies")
    connection.execute("CREATE VIEW copies AS SELECT seq FROM facts")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()

    assert rows(path, "SELECT dry_run FROM copies") == [{"dry_run": 0}]


def test_latency_is_split_where_the_times_were_recorded(writer: Writer) -> None:
    found = rows(day(writer), "SELECT * FROM latency ORDER BY seq")

    stages = [[row[f"{stage}_ms"] for stage in ("decided", "durable", "sent", "answered", "total")] for row in found]
    assert stages == [[1.0, 2.0, 1.0, 20.0, 24.0], [None, None, None, None, 24.0]]
    assert found[0]["event"] == "OrderSeen"


def test_slippage_is_positive_where_the_follower_did_worse(writer: Writer) -> None:
    writer.copied(1, "110.15")
    writer.copied(2, "110.15", side=Side.SELL)

    worse, better = rows(writer.close(), "SELECT worse, ticks, rupees FROM slippage ORDER BY seq")

    assert worse == {"worse": 0.15, "ticks": 3.0, "rupees": 11.25}
    assert better == {"worse": -0.15, "ticks": -3.0, "rupees": -11.25}


def test_two_instruments_of_one_number_on_two_segments_are_kept_apart(writer: Writer) -> None:
    writer.instrument(Security("BSE_EQ", SHARE.security_id), "WRONG", 1)
    writer.instrument(SHARE, "RELIANCE", 1)
    writer.led("7", Skip("asha", "7", SkipReason.FILTERED, ""), terms=ticket(10, security=SHARE))

    assert rows(writer.close(), "SELECT symbol FROM skips") == [{"symbol": "RELIANCE"}]


def test_a_journal_of_an_older_program_is_asked_alike(writer: Writer) -> None:
    path = day(writer)
    wanted = {view: rows(path, f"SELECT * FROM {view}") for view in VIEWS}
    connection = sqlite3.connect(path)
    for view in reversed(VIEWS):
        connection.execute(f"DROP VIEW {view}")
    for index in INDEXES:
        connection.execute(f"DROP INDEX {index}")
    connection.execute("DROP TABLE pruned")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()

    assert {view: rows(path, f"SELECT * FROM {view}") for view in VIEWS} == wanted
    assert audit(path, "verify").exit_code == audit(path, "report").exit_code == 0


# --- Recipes -------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs(writer: Writer, recipe: str) -> None:
    found = rows(day(writer), recipe.replace("date('now', '+330 minutes')", "'2026-11-23'"))

    assert isinstance(found, list)


def recipe(words: str) -> str:
    """The one query of the page that stands below these words."""
    (found,) = re.findall(rf"{words}[^`]*```sql\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
    return str(found).replace("date('now', '+330 minutes')", "'2026-11-23'")


@pytest.fixture
def books(writer: Writer) -> Path:
    """A day with a dry run and then a live run, and two expiries of one month, which share their symbol."""
    weekly = Security("NSE_FNO", "40077")
    for dry_run in (True, False):
        writer.start(dry_run=dry_run)
        writer.instrument(weekly)
        writer.copied(1, "110.15", times=True)
        writer.copied(2, "120", security=weekly)
        writer.copied(3, "130", side=Side.SELL, security=weekly)
        writer.skipped(4)
        writer.record(Noticed(writer.now, Level.WARNING, "x"), Alert(Level.WARNING, "something", "asha"))
    return writer.close()


def test_the_books_keep_expiries_apart_and_have_nothing_on_paper(books: Path) -> None:
    fills = rows(books, recipe("Every fill"))
    traded = rows(books, recipe("Bought and sold"))

    assert [(row["account"], row["order_id"], row["security_id"]) for row in fills] == [
        ("leader", "362261123000001", "40001"),
        ("asha", "322261123000001", "40001"),
        ("leader", "362261123000002", "40077"),
        ("asha", "322261123000002", "40077"),
        ("leader", "362261123000003", "40077"),
        ("asha", "322261123000003", "40077"),
    ]
    assert [(row["security_id"], row["bought"], row["sold"], row["money"]) for row in traded] == [
        ("40001", 75, 0, -8261.25),
        ("40077", 75, 75, 750.0),
    ]
    assert {row["symbol"] for row in traded} == {"NIFTY-Dec2026-25000-CE"}


def test_slippage_is_of_one_expiry_and_of_no_dry_run(books: Path) -> None:
    by_instrument = rows(books, recipe("By instrument"))
    (by_day,) = rows(books, recipe("Slippage by follower and day"))

    assert {row["security_id"]: (row["rupees"], row["units"]) for row in by_instrument} == {
        "40001": (11.25, 75),
        "40077": (-750.0, 150),
    }
    assert (by_day["orders"], by_day["rupees"]) == (3, -738.75)


@pytest.mark.parametrize(
    ("words", "column", "wanted"),
    [
        ("The leader's orders of a day", "orders_placed", [1, 1, 1, 0]),
        ("Reasons of a month", "times", [1]),
        ("The slowest placements", "total_ms", [24.0, 24.0, 24.0]),
        ("The middle of each day", "orders", [3]),
        ("Alerts, the serious ones", "text", ["something"]),
    ],
)
def test_a_recipe_counts_what_was_real(books: Path, words: str, column: str, wanted: list[object]) -> None:
    assert [row[column] for row in rows(books, recipe(words))] == wanted


def test_an_after_market_order_of_the_evening_before_is_open(writer: Writer) -> None:
    writer.now -= timedelta(hours=20)
    writer.resting(1, after_market=True)
    writer.resting(2)
    writer.now += timedelta(hours=20)
    writer.resting(3)

    found = rows(writer.close(), recipe("Orders of ours that are open"))

    assert [row["order_id"] for row in found] == ["322261123000001", "322261123000003"]


def test_what_was_decided_on_paper_is_nothing_for_a_live_order(writer: Writer) -> None:
    writer.start(dry_run=True)
    writer.copied(1)
    writer.start()
    writer.led("362261123000001")
    writer.copied(2)

    found = rows(writer.close(), recipe("Leader orders for which"))

    assert [row["leader_order_id"] for row in found] == ["362261123000001"]


def test_the_recipes_find_what_they_say(writer: Writer) -> None:
    path = day(writer)
    found = [rows(path, recipe.replace("date('now', '+330 minutes')", "'2026-11-23'")) for recipe in RECIPES]

    titles = [list(each[0]) if each else [] for each in found]
    assert ["reason", "follower", "times"] in titles
    assert len(RECIPES) >= 12 and sum(1 for each in found if each) >= 8


@pytest.mark.parametrize("title", sorted(CANNED))
def test_every_canned_query_runs_on_a_plain_connection(writer: Writer, title: str) -> None:
    connection = sqlite3.connect(f"{day(writer).as_uri()}?mode=ro", uri=True)
    values = {"day": "2026-11-23", "first_day": "2026-11-01", "last_day": "2026-11-30", "order": name(1)}

    found = connection.execute(CANNED[title]["sql"], values).fetchall()
    connection.close()

    assert found or title == "serious"


def test_sqlite_utils_reads_the_views(writer: Writer) -> None:
    path = day(writer)
    database = Database(sqlite3.connect(path))

    assert set(VIEWS) <= set(database.view_names())
    assert len(list(database.query("SELECT * FROM copies"))) == 2
    database.close()


# --- Only reading --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM facts",
        "UPDATE facts SET body = '{}'",
        "INSERT INTO inbox (at, kind, body) VALUES ('', 'Halted', '{}')",
        "DROP VIEW orders",
        "CREATE TEMP TABLE t (a)",
        "ATTACH DATABASE '{folder}/other.db' AS other",
        "VACUUM INTO '{folder}/other.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "BEGIN IMMEDIATE",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('{folder}/other.db', 'x')",
        "SELECT fts3_tokenizer('x', x'00')",
        "SELECT 1; DELETE FROM facts",
        "CREATE VIRTUAL TABLE temp.t USING fts5(a)",
        "SELECT",
        "",
        "   ",
    ],
)
def test_nothing_but_reading_passes(writer: Writer, tmp_path: Path, statement: str) -> None:
    path = day(writer)
    before = path.read_bytes()

    done = audit(path, "sql", statement.replace("{folder}", str(tmp_path)))

    if statement:
        assert (done.exit_code, done.stdout) == (2, ""), statement
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert not (tmp_path / "other.db").exists()


def test_odd_values_and_names_are_shown(writer: Writer) -> None:
    found = rows(writer.close(), "SELECT 1 AS a, 2 AS a, x'ff' AS blob, 9e999 AS much, NULL AS empty")

    assert found == [{"a": 1, "a:2": 2, "blob": "ff", "much": "inf", "empty": None}]


# --- Speed ---------------------------------------------------------------------------------


def test_asking_for_a_day_takes_no_longer_in_a_longer_journal(tmp_path: Path) -> None:
    """A query that looked at every fact would take some ten times as long for the day in the longer journal."""

    def seconds(path: Path, view: str) -> float:
        with Journal.open(path, read_only=True) as journal:

            def once() -> float:
                started = time.perf_counter()
                journal.query(f"SELECT * FROM {view} WHERE day = '2026-11-23'")
                return time.perf_counter() - started

            return min(once() for _ in range(5))

    paths = []
    for days in (1, 12):
        path = tmp_path / f"{days}.db"
        writer = Writer(path, NOON - timedelta(days=days - 1))
        for number in range(days):
            writer.now = NOON - timedelta(days=days - 1 - number)
            writer.start()
            writer.instrument()
            for order in range(60):
                writer.copied(number * 60 + order)
        paths.append(writer.close())

    for view in ("orders", "copies", "fills", "latency", "slippage", "skips", "alerts"):
        short, long = (seconds(path, view) for path in paths)
        assert long < 4 * short + 0.005, view
