from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from copytrader.cli import app

WriteConfig = Callable[..., Path]
RUN = CliRunner()
HEAD = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,SM_FREEZE_QTY\n"
)


def option(number: int, underlying: str, expiry: str, strike: str, kind: str, month: str = "Sep2026") -> str:
    title = f"{underlying}-{month}-{strike}-{kind}"
    name = f"{underlying} {strike} {'CALL' if kind == 'CE' else 'PUT'}"
    return (
        f"NSE,D,{number},NA,OPTIDX,26000,{underlying},{title},{name},OP,NA,65.0,{expiry},{strike}.0,{kind},5.0,M,1756\n"
    )


ROWS = [
    option(1001, "NIFTY", "2026-09-29", "29150", "CE"),
    option(1002, "NIFTY", "2026-09-29", "29150", "PE"),
    option(1003, "NIFTY", "2026-09-22", "29150", "CE"),
    option(1004, "NIFTY", "2026-09-02", "29150", "CE"),
    option(1005, "BANKNIFTY", "2026-09-29", "29150", "CE"),
    option(1006, "NIFTY", "2026-10-29", "29150", "CE", "Oct2026"),
    "NSE,D,1007,NA,FUTIDX,26000,NIFTY,NIFTY-Sep2026-FUT,NIFTY SEP FUT,FUT,NA,65.0,2026-09-29,-0.01,XX,10.0,M,1756\n",
    "NSE,E,2001,INE000A00001,EQUITY,,MADEUP,MADE UP LTD,Made Up,ES,EQ,1,,,,5.0,NA,\n",
    "BSE,E,3001,INE000A00001,EQUITY,,MADEUP,MADE UP LTD,Made Up,ES,A,1,,,,5.0,NA,\n",
]


@pytest.fixture
def ask(write_config: WriteConfig, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """The instruments command on a store with the rows above."""
    path = str(write_config())
    master = tmp_path / "master.csv"
    master.write_text(HEAD + "".join(ROWS))
    assert RUN.invoke(app, ["instruments", "sync", "--config", path, "--from", str(master)]).exit_code == 0

    def run(*arguments: str) -> tuple[int, str, str]:
        done = RUN.invoke(app, ["instruments", *arguments, "--config", path])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("NIFTY 29 SEP 29150 CE", ["1001"]),
        ("nifty 29 sep 29150 call", ["1001"]),
        ("NIFTY 2026-09-29 29150 PE", ["1002"]),
        ("NIFTY-Sep2026-29150-PE", ["1002"]),
        ("1005", ["1005"]),
        ("NIFTY 2 SEP 29150 CE", ["1004"]),
        ("NIFTY 02 SEP 29150 CE", ["1004"]),
        ("NIFTY SEP 2026 29150 CE", ["1004", "1003", "1001"]),
        ("BANKNIFTY", ["1005"]),
        ("NIFTY OCT", ["1006"]),
        ("NIFTY FUT", ["1007"]),
        ("MADEUP", ["3001", "2001"]),
        ("MADEUP NSE", ["2001"]),
        ("MADEUP BSE_EQ", ["3001"]),
    ],
)
def test_show_finds_what_a_trader_says(ask: Callable[..., tuple[int, str, str]], words: str, ids: list[str]) -> None:
    code, out, _ = ask("show", *words.split(), "--json")

    assert code == 0
    assert [row["security_id"] for row in json.loads(out)] == ids


def test_one_instrument_is_shown_wholly(ask: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = ask("show", "NIFTY", "29", "SEP", "29150", "CE")

    assert (code, err) == (0, "")
    shown = dict(line.split(maxsplit=1) if "  " not in line else line.split("  ", 1) for line in out.splitlines())
    assert {key.strip(): value.strip() for key, value in shown.items()}["lot size"] == "65"
    assert "freeze quantity  1755" in out
    assert "tick size        0.05" in out


def test_several_are_a_table_and_what_would_tell_them_apart(ask: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = ask("show", "NIFTY", "29150", "CE", "SEP")

    assert code == 0
    assert len(out.splitlines()) == 5
    assert err == "3 instruments are 'NIFTY 29150 CE SEP': add the day, the strike, CE or PE\n"


@pytest.mark.parametrize("words", ["NIFTY 29 SEP 29155 CE", "NIFTY 9 SEP 29150 CE", "NIFT", "% _"])
def test_nothing_exact_is_a_failure(ask: Callable[..., tuple[int, str, str]], words: str) -> None:
    code, out, err = ask("show", *words.split())

    assert (code, out) == (1, "")
    assert err.startswith(f"no instrument is {words!r}")
    assert words != "NIFT" or "near it: " in err


def test_search_takes_parts_of_names_in_any_form(ask: Callable[..., tuple[int, str, str]]) -> None:
    assert len(json.loads(ask("search", "made", "--json")[1])) == 2
    assert len(ask("search", "nifty", "--csv", "--limit", "3")[1].splitlines()) == 4
    code, out, err = ask("search", "29150", "--limit", "2")
    assert (code, err) == (0, "the first 2 are shown: add a word, or --limit\n")
    assert "NIFTY-Sep2026-29150-" in out
    code, _, err = ask("search", "zzz")
    assert (code, err) == (1, "no instrument has 'zzz' in its name\n")


def test_before_the_first_sync_both_say_what_to_do(write_config: WriteConfig, tmp_path: Path) -> None:
    path = str(write_config())
    for command in (["show", "NIFTY"], ["search", "NIFTY"]):
        done = RUN.invoke(app, ["instruments", *command, "--config", path])
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == "there are no instruments yet: run `copytrader instruments sync`\n"
    assert not (tmp_path / "copytrader.instruments.db").exists()


@pytest.mark.parametrize("source", ["none.csv", ".", "ftp://127.0.0.1/x.csv", "http://images.dhan.co/x.csv"])
def test_a_source_that_is_none_is_the_user_s_mistake(write_config: WriteConfig, source: str) -> None:
    done = RUN.invoke(app, ["instruments", "sync", "--config", str(write_config()), "--from", source])

    assert (done.exit_code, done.stdout) == (2, "")
    assert "--from" in done.stderr
