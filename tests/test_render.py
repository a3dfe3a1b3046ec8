from __future__ import annotations

import csv
import dataclasses
import io
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader import render
from copytrader.core.model import IST, Security, Side
from copytrader.render import Column, Format

AT = datetime(2026, 11, 24, 9, 15, 1, 250_000, tzinfo=IST)
COLUMNS = [Column("symbol"), Column("net_quantity"), Column("price", "average")]
ROWS = [
    {"symbol": "NIFTY-Nov2026-25000-CE", "net_quantity": 75, "price": Decimal("101.50"), "side": Side.BUY},
    {"symbol": "RELIANCE", "net_quantity": -1500, "price": None, "side": Side.SELL},
]


def test_a_table_puts_numbers_to_the_right_and_shows_the_columns_named(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(ROWS, COLUMNS)

    assert capsys.readouterr().out.splitlines() == [
        "symbol                   net quantity   average",
        "───────────────────────────────────────────────",
        "NIFTY-Nov2026-25000-CE             75    101.50",
        "RELIANCE                        -1500",
    ]


def test_a_column_may_have_its_digits_parted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"what": value, "seq": 12345} for value in (Decimal("97500.00"), 1800, 1310.15, None, True)]

    render.rows(rows, [Column("what", in_threes=True), Column("seq")])

    shown = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert shown == [["97,500.00", "12345"], ["1,800", "12345"], ["1,310.15", "12345"], ["12345"], ["yes", "12345"]]


def test_json_is_one_document_with_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(ROWS, COLUMNS, Format.JSON)

    assert json.loads(capsys.readouterr().out) == [
        {"symbol": "NIFTY-Nov2026-25000-CE", "net_quantity": 75, "price": 101.5, "side": "BUY"},
        {"symbol": "RELIANCE", "net_quantity": -1500, "price": None, "side": "SELL"},
    ]


def test_csv_has_a_header_and_every_key_even_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(ROWS, COLUMNS, Format.CSV)
    assert capsys.readouterr().out.splitlines() == [
        "symbol,net_quantity,price,side",
        "NIFTY-Nov2026-25000-CE,75,101.50,BUY",
        "RELIANCE,-1500,,SELL",
    ]

    render.rows([], COLUMNS, Format.CSV)
    assert capsys.readouterr().out == "symbol,net_quantity,price\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.05"), 0.05),
        (Decimal("500000.00"), 500_000),
        (Decimal("0.1000000000000000000001"), "0.1000000000000000000001"),
        (Decimal("NaN"), "NaN"),
        (AT, "2026-11-24T09:15:01.250000+05:30"),
        (date(2026, 11, 24), "2026-11-24"),
        (Security("NSE_FNO", "1234"), {"exchange_segment": "NSE_FNO", "security_id": "1234"}),
        ({"a": (Side.BUY, None, True)}, {"a": ["BUY", None, True]}),
        (Path("copytrader.db"), "copytrader.db"),
    ],
)
def test_values_keep_their_meaning_in_json(value: object, expected: object) -> None:
    assert json.loads(json.dumps(render.plain(value))) == expected


def test_what_has_no_meaning_in_json_is_refused() -> None:
    with pytest.raises(ValueError, match="without an offset"):
        render.plain(AT.replace(tzinfo=None))
    with pytest.raises(TypeError, match="no JSON for object"):
        render.plain(object())
    with pytest.raises(ValueError, match="not JSON compliant"):
        render.document(float("nan"))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;your terminal\x07title", "title"),
        ("\x1b]8;;http://example.com\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bcreset", "reset"),
        ("two\r\nlines\x00\x7f", "two lines "),
        ("\u202eright to left\u2066", " right to left "),
        ("₹ 1,00,000 — ठीक", "₹ 1,00,000 — ठीक"),
    ],
)
def test_a_brokers_text_cannot_steer_the_terminal(text: str, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert render.clean(text) == seen

    render.line(text)
    render.notice(text)
    render.rows([{"note": text}], [Column("note")], Format.JSON)
    shown = capsys.readouterr()
    assert shown.err == f"{seen}\n"
    assert not set("\x1b\x9b\x07\x00\x7f\u202e") & set(shown.out)


def test_markup_and_long_text_reach_the_reader_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([{"note": "[red]:smile:[/red] " + "long " * 60 + "end"}], [Column("note")])

    assert capsys.readouterr().out.splitlines()[2] == "[red]:smile:[/red] " + "long " * 60 + "end"


@pytest.mark.parametrize("text", ['=HYPERLINK("http://example.com")', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_no_formula_of_a_brokers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([{"note": text}], [Column("note")], Format.CSV)

    (_, (cell,)) = csv.reader(io.StringIO(capsys.readouterr().out))
    assert cell.startswith("'")


def test_negative_numbers_stay_numbers_in_csv(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([{"a": -5, "b": Decimal("-0.5"), "c": True, "d": ["x", -1]}], [], Format.CSV)

    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == ["-5", "-0.5", "true", '["x", -1]']


def test_a_terminal_folds_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")

    render.rows([{"symbol": "x" * 50, "why": "y" * 50}], [Column("symbol"), Column("why")])

    out = capsys.readouterr().out
    assert all(len(render.clean(text)) <= 30 for text in out.splitlines())
    assert (out.count("x"), render.clean(out).count("y"), "…" in out) == (50, 52, False)


def test_a_table_that_would_cut_words_is_laid_out_row_by_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    columns = [Column(f"column_{number}") for number in range(6)]
    items = [{column.key: f"row{row}-{column.key}" for column in columns} for row in range(2)]

    render.rows(items, columns)

    lines = render.clean(capsys.readouterr().out.replace("\n", "|")).split("|")
    assert lines[0].split() == ["column", "0", "row0-column_0"]
    assert sum("row1-column_5" in text for text in lines) == 1
    assert max(map(len, lines)) <= 40


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_its_lines_broken_between_words_and_a_pipe_gets_them_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out, err = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    text = "  asha: it holds +150 NIFTY-29Dec2026-25000-CE from copying"

    render.line(text)
    render.line("ok    disk   9 GB are free where the journal is", indent=13)
    render.notice(text)

    assert out.getvalue().splitlines() == [
        "  asha: it holds +150",
        "      NIFTY-29Dec2026-25000-CE",
        "      from copying",
        "ok    disk   9 GB are free",
        "             where the journal",
        "             is",
    ]
    assert err.getvalue() == f"{text}\n"


def test_a_column_of_names_to_be_typed_is_not_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    row = {"key": "followers.asha.limits.max_daily_loss", "value": "20000 " * 9, "origin": "copytrader.toml"}

    render.rows([row], [Column("key", is_whole=True), Column("value"), Column("origin")])

    assert "followers.asha.limits.max_daily_loss " in render.clean(capsys.readouterr().out)


def test_no_color_means_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    render.rows(ROWS, COLUMNS)

    assert "\x1b[3" not in capsys.readouterr().out


def test_a_row_may_come_from_a_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([dataclasses.asdict(Security("NSE_EQ", "2885"))], [Column("security_id")])

    assert capsys.readouterr().out.splitlines()[2] == "2885"
