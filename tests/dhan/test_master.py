"""The instrument master: both layouts, only what changed is written, a broken file changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from copytrader.core.model import Security
from copytrader.dhan.master import Change, InstrumentStore, MasterError
from copytrader.dhan.master.download import download
from tests.dhan.support import http_answer, http_server, tcp_server

TODAY = date(2026, 9, 7)
DETAILED = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,"
    "SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
COMPACT = (
    "SEM_EXM_EXCH_ID,SEM_SEGMENT,SEM_SMST_SECURITY_ID,SEM_INSTRUMENT_NAME,SEM_EXPIRY_CODE,SEM_TRADING_SYMBOL,"
    "SEM_LOT_UNITS,SEM_CUSTOM_SYMBOL,SEM_EXPIRY_DATE,SEM_STRIKE_PRICE,SEM_OPTION_TYPE,SEM_TICK_SIZE,"
    "SEM_EXPIRY_FLAG,SEM_EXCH_INSTRUMENT_TYPE,SEM_SERIES,SM_SYMBOL_NAME"
)


def option(security_id: int = 51000, **changes: Any) -> str:
    """A NIFTY option in the detailed layout."""
    cell = {"lot": "65.0", "tick": "5.0000", "freeze": "1756", "strike": "25000.00000", "expiry": "2026-09-29"}
    cell |= {"exchange": "NSE", "segment": "D", "upper": "20.1000", "lower": "0.0500"} | changes
    return (
        "{exchange},{segment},{id},NA,OPTIDX,26000,NIFTY,NIFTY-Sep2026-25000-CE,NIFTY 29 SEP 25000 CALL,OP,NA,"
        "{lot},{expiry},{strike},CE,{tick},M,{upper},{lower},{freeze},"
    ).format(id=security_id, **cell)


SHARE = "NSE,E,9001,INE000000001,EQUITY,,PLUM,PLUM INDUSTRIES LTD,Plum Industries,ES,EQ,1,,,,10,NA,886.35,590.95,-1,"
INDEX = "NSE,I,13,NA,INDEX,13,NIFTY,NIFTY,Nifty 50,INDEX,NA,1,0001-01-01,,XX,0.05,N,0,0,0,"
METAL = (
    "MCX,M,44000,NA,FUTCOM,100,GOLDM,GOLDM-05Oct2026-FUT,GOLDM OCT FUT,FUT,NA,1.0,2026-10-05,-0.01000,XX,100.0,M,"
    "nan,nan,101,"
)
RUPEE = "NSE,C,2885,NA,OPTCUR,1,USDINR,USDINR-Sep2026-85-CE,x,OP,NA,1.0,2026-09-28,85,CE,0.2500,M,0,0,10001,"


def write(path: Path, *rows: str, header: str = DETAILED, end: str = "\n") -> Path:
    path.write_text("\n".join([header, *rows]) + end)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[InstrumentStore]:
    opened = InstrumentStore(tmp_path / "instruments.db")
    yield opened
    opened.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "master.csv"


def row_of(store: InstrumentStore, segment: str, security_id: str) -> Any:
    found = store.get(Security(segment, security_id))
    assert found is not None
    return found


def test_a_derivative_of_the_detailed_file(store: InstrumentStore, source: Path) -> None:
    report = store.load(write(source, option(), SHARE), TODAY)

    assert (report.rows, report.added, report.changed, report.removed, report.problems) == (2, 2, 0, 0, ())
    found = row_of(store, "NSE_FNO", "51000")
    assert found.symbol == "NIFTY-Sep2026-25000-CE"
    assert found.underlying == "NIFTY"
    assert found.instrument_type == "OPTIDX"
    assert found.lot_size == 65
    assert found.tick_size == Decimal("0.05")
    assert found.freeze_quantity == 1755, "27 lots: 1756 is the first quantity that freezes"
    assert found.multiplier == 1
    assert found.expiry == date(2026, 9, 29)
    assert found.strike == 25000
    assert found.option_type == "CE"
    assert (found.lower_limit, found.upper_limit) == (Decimal("0.05"), Decimal("20.1"))
    assert found.master_date == TODAY


def test_a_share_an_index_a_metal_and_a_currency(store: InstrumentStore, source: Path) -> None:
    store.load(write(source, SHARE, INDEX, METAL, RUPEE), TODAY)

    share = row_of(store, "NSE_EQ", "9001")
    assert (share.symbol, share.underlying, share.tick_size) == ("PLUM", "PLUM", Decimal("0.1"))
    assert (share.freeze_quantity, share.multiplier, share.expiry, share.strike) == (0, 1, None, None)
    index = row_of(store, "IDX_I", "13")
    assert index.tick_size == Decimal("0.05"), "ticks of indices are in rupees"
    metal = row_of(store, "MCX_COMM", "44000")
    assert metal.multiplier is None, "nobody told us what a lot of gold is"
    assert (metal.freeze_quantity, metal.strike, metal.upper_limit) == (100, None, None)
    rupee = row_of(store, "NSE_CURRENCY", "2885")
    assert rupee.multiplier is None
    assert rupee.tick_size == Decimal("0.0025")


def test_the_compact_file(store: InstrumentStore, source: Path) -> None:
    rows = (
        "NSE,D,61000,OPTSTK,0,BAJAJ-AUTO-Sep2026-700-PE,500.0,x,2026-09-29 14:30:00,700,PE,5.0,M,OP,,",
        "BSE,E,200,EQUITY,0,PLUM,1,Plum,,,,1,NA,ES,NS,PLUM LTD",
        "BSE,E,201,EQUITY,0,BIG,1.00E+07,Big,,,,1,NA,ES,NS,BIG LTD",
    )
    report = store.load(write(source, *rows, header=COMPACT, end="\r\n"), TODAY)

    assert report.problems == ()
    found = row_of(store, "NSE_FNO", "61000")
    assert (found.underlying, found.lot_size, found.expiry) == ("BAJAJ-AUTO", 500, date(2026, 9, 29))
    assert (found.option_type, found.freeze_quantity) == ("PE", 0)
    assert row_of(store, "BSE_EQ", "200").tick_size == Decimal("0.01")
    assert row_of(store, "BSE_EQ", "201").lot_size == 10_000_000


def test_columns_may_move_and_new_ones_may_come(store: InstrumentStore, source: Path) -> None:
    names, cells = DETAILED.split(","), option().split(",")
    order = sorted(range(len(names)), key=lambda i: names[i] or "ZZZ")
    header = ",".join(["NEW", *(names[i] for i in order)])
    store.load(write(source, ",".join(["?", *(cells[i] for i in order)]), header=header), TODAY)
    assert row_of(store, "NSE_FNO", "51000").freeze_quantity == 1755


def test_security_ids_are_unique_only_within_their_segment(store: InstrumentStore, source: Path) -> None:
    store.load(write(source, SHARE.replace("9001", "2885"), RUPEE), TODAY)
    assert row_of(store, "NSE_EQ", "2885").symbol == "PLUM"
    assert row_of(store, "NSE_CURRENCY", "2885").underlying == "USDINR"
    assert store.get(Security("BSE_EQ", "2885")) is None


@pytest.mark.parametrize(
    ("freeze", "largest"),
    [("1756", 1755), ("1801", 1755), ("65", 65), ("3", 65), ("-1", 0), ("0", 0), ("nan", 0), ("", 0)],
)
def test_the_largest_order_is_whole_lots_below_the_freezing_quantity(
    store: InstrumentStore, source: Path, freeze: str, largest: int
) -> None:
    store.load(write(source, option(freeze=freeze)), TODAY)
    assert row_of(store, "NSE_FNO", "51000").freeze_quantity == largest


@pytest.mark.parametrize(
    "changes",
    [
        {"lot": ""},
        {"lot": "0"},
        {"lot": "-65"},
        {"lot": "65.5"},
        {"lot": "many"},
        {"lot": "1E+99"},
        {"tick": ""},
        {"tick": "0"},
        {"tick": "nan"},
        {"tick": "-5"},
        {"expiry": "soon"},
        {"strike": "1e999"},
        {"freeze": "x"},
        {"segment": "Q"},
        {"exchange": "XYZ"},
    ],
)
def test_a_row_that_cannot_be_read_is_left_out_and_named(
    store: InstrumentStore, source: Path, changes: dict[str, str]
) -> None:
    report = store.load(write(source, option(1, **changes), option(2)), TODAY)
    assert (report.rows, report.problem_count) == (1, 1)
    assert report.problems[0].startswith("line 2: ")
    assert store.get(Security("NSE_FNO", "1")) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lot": "abc"}, "line 2: lot size 'abc' is not a number"),
        ({"lot": "65.5"}, "line 2: lot size '65.5' is not a whole number"),
        ({"tick": "-5"}, "line 2: tick '-5' is not above 0"),
        ({"strike": "high"}, "line 2: strike 'high' is not a number"),
        ({"freeze": "x"}, "line 2: freeze quantity 'x' is not a number"),
        ({"upper": "1,5"}, "line 2: price limit '1,5' is not a number"),
        ({"expiry": "soon"}, "line 2: expiry 'soon' is no date"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_name_of_its_column(
    store: InstrumentStore, source: Path, changes: dict[str, str], told: str
) -> None:
    changes = {key: f'"{value}"' for key, value in changes.items()}

    assert store.load(write(source, option(1, **changes), option(2)), TODAY).problems == (told,)


def test_of_an_instrument_that_is_there_twice_the_last_row_counts_and_other_sizes_are_said(
    store: InstrumentStore, source: Path
) -> None:
    for before in (1, 0):  # new, and stored as it was
        rows = [option(1), option(1, lot="75", upper="30"), option(2), option(2, upper="30")]
        report = store.load(write(source, *rows), TODAY)

        assert report.rows == 2, before
        (said,) = report.doubles
        assert said.startswith("NIFTY-Sep2026-25000-CE (NSE_FNO 1) is in the file twice, with lot size 65 and 75, ")
        assert said.endswith(", freeze quantity 1755 and 1725: the last one counts")
        assert row_of(store, "NSE_FNO", "1").lot_size == 75


def test_only_what_changed_is_written(store: InstrumentStore, source: Path, tmp_path: Path) -> None:
    rows = [option(i) for i in range(100)]
    store.load(write(source, *rows), TODAY)
    watch = sqlite3.connect(tmp_path / "instruments.db")
    watch.execute("create table touched (what text)")
    for what in ("insert", "update", "delete"):
        watch.execute(
            f"create trigger on_{what} after {what} on instrument begin insert into touched values ('{what}'); end"
        )
    watch.commit()

    again = store.load(source, date(2026, 9, 8))
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert watch.execute("select count(*) from touched").fetchone() == (0,)

    report = store.load(write(source, *rows[2:], option(1, lot="75.0", upper="30"), option(500)), date(2026, 9, 9))
    assert (report.rows, report.added, report.changed, report.removed) == (100, 1, 1, 1)
    assert watch.execute("select count(*) from touched").fetchone()[0] <= 4
    watch.close()
    assert row_of(store, "NSE_FNO", "1").lot_size == 75
    assert store.get(Security("NSE_FNO", "0")) is None
    assert row_of(store, "NSE_FNO", "50").master_date == date(2026, 9, 9)


def test_changed_lots_ticks_and_freeze_quantities_are_reported(store: InstrumentStore, source: Path) -> None:
    store.load(write(source, option(1), option(2)), TODAY)
    report = store.load(write(source, option(1, lot="75", tick="10", freeze="1801"), option(2, upper="99")), TODAY)

    security, symbol = Security("NSE_FNO", "1"), "NIFTY-Sep2026-25000-CE"
    assert report.changes == (
        Change(security, symbol, "lot size", "65", "75"),
        Change(security, symbol, "tick", "0.05", "0.1"),
        Change(security, symbol, "freeze quantity", "1755", "1800"),
    )


@pytest.mark.parametrize(
    "broken",
    [
        "",
        DETAILED,
        DETAILED + "\n",
        "a,b,c\n1,2,3\n",
        "<html>\n</html>\n",
        DETAILED.replace("LOT_SIZE", "LOTS") + "\n" + option() + "\n",
        "\n".join([DETAILED, *(option(i) for i in range(10))])[:-1],
        "\n".join([DETAILED, *(option(i) for i in range(9)), option(9)[:40]]),
        "\n".join([DETAILED, *(option(i) for i in range(9)), option(9)[:40]]) + "\n",
        "\n".join([DETAILED, *(option(i) for i in range(4))]) + "\n",
        "\n".join([DETAILED, '"' + "x" * 200_000]) + "\n",
        b"\xff\xfe\x00\x01" * 100,
    ],
)
def test_a_broken_file_changes_nothing(store: InstrumentStore, source: Path, broken: str | bytes) -> None:
    store.load(write(source, *(option(i) for i in range(10))), TODAY)
    source.write_bytes(broken if isinstance(broken, bytes) else broken.encode())

    with pytest.raises(MasterError, match=r"master\.csv: "):
        store.load(source, date(2026, 9, 8))

    assert store.count() == 10
    assert store.synced_on() == TODAY
    assert row_of(store, "NSE_FNO", "9").lot_size == 65


def test_a_file_that_is_none_of_dhans_is_said_with_its_name_and_what_to_do(
    store: InstrumentStore, source: Path
) -> None:
    source.write_text(DETAILED.replace("LOT_SIZE", "LOTS") + "\n")

    with pytest.raises(MasterError) as refused:
        store.load(source, TODAY)

    told = "not Dhan's instrument file, there is no column LOT_SIZE; name another with --from"
    assert str(refused.value) == f"{source}: {told}"


def test_a_whole_last_row_needs_no_line_end(store: InstrumentStore, source: Path) -> None:
    source.write_text("\n".join([DETAILED, option(1), option(2)]))

    assert store.load(source, TODAY).rows == 2


def test_a_file_that_is_not_there_is_an_error(store: InstrumentStore, tmp_path: Path) -> None:
    with pytest.raises(MasterError, match="No such file"):
        store.load(tmp_path / "none.csv", TODAY)


def test_search_finds_what_bears_every_word(store: InstrumentStore, source: Path) -> None:
    store.load(write(source, option(1), SHARE, INDEX, SHARE.replace("9001", "9002").replace("PLUM", "PL_M")), TODAY)
    assert [found.symbol for found in store.search("nifty 25000 call")] == ["NIFTY-Sep2026-25000-CE"]
    assert store.search("nifty")[0].symbol == "NIFTY"
    assert [found.symbol for found in store.search("pl_m")] == ["PL_M"]
    assert len(store.search("nifty", limit=1)) == 1
    assert store.search("'; drop table instrument; --") == ()
    assert store.search("  ") == ()


def test_freshness_is_of_the_day_and_the_source(store: InstrumentStore, source: Path) -> None:
    assert not store.is_fresh(TODAY, source)
    assert store.synced_on() is None
    asyncio.run(store.sync(write(source, option()), TODAY))
    assert store.is_fresh(TODAY, source)
    assert not store.is_fresh(date(2026, 9, 8), source)
    assert not store.is_fresh(TODAY, "https://images.dhan.co/x.csv")


def test_the_file_is_for_its_owner_only(store: InstrumentStore, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "instruments.db").stat().st_mode) & 0o077 == 0


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is not a database, it is a text that is long enough to be none")
    with pytest.raises(MasterError, match="delete the file"):
        InstrumentStore(tmp_path / "x.db")


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("SQLITE_FULL", "database or disk is full", "the disk is full; free space (database or disk is full)"),
        (
            "SQLITE_IOERR_SHMSIZE",
            "disk I/O error",
            "the disk failed; check the disk and its free space (disk I/O error)",
        ),
        ("SQLITE_NOTADB", "file is not a database", "file is not a database; delete the file and sync again"),
    ],
)
def test_a_disk_that_is_full_is_not_mended_by_deleting_the_file(
    name: str, words: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_: InstrumentStore) -> None:
        error = sqlite3.OperationalError(words)
        error.sqlite_errorname = name
        raise error

    monkeypatch.setattr(InstrumentStore, "_connect", connect)
    with pytest.raises(MasterError) as refused:
        InstrumentStore(tmp_path / "instruments.db")

    assert str(refused.value) == f"{tmp_path}/instruments.db: {told}"


def test_the_old_rows_answer_while_new_ones_are_read(store: InstrumentStore, source: Path) -> None:
    rows = [option(i) for i in range(20_001)]
    store.load(write(source, *rows), TODAY)
    write(source, *(option(i, lot="75") for i in range(20_001)))
    seen: list[int] = []

    store.load(source, TODAY, progress=lambda *_: seen.append(row_of(store, "NSE_FNO", "1").lot_size))

    assert seen == [65]
    assert row_of(store, "NSE_FNO", "1").lot_size == 75


# --- Downloads -----------------------------------------------------------------------

BODY = f"{DETAILED}\n{option()}\n{SHARE}\n".encode()


def test_a_sync_from_an_address(store: InstrumentStore) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=BODY)

    async def test() -> None:
        done: list[tuple[int, int | None]] = []
        async with http_server(answer) as (url, seen):
            report = await store.sync(url + "/x.csv", TODAY, lambda *step: done.append(step))
            assert report.rows == 2
            assert done[-1] == (len(BODY), len(BODY))
            assert store.is_fresh(TODAY, url + "/x.csv")
            assert "access-token" not in seen.headers[0]

    asyncio.run(test())


def test_a_download_that_breaks_off_changes_nothing(store: InstrumentStore) -> None:
    async def truncated(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(BODY)[:-60])
        await writer.drain()
        writer.close()

    async def test() -> None:
        async with tcp_server(truncated) as (url, _):
            with pytest.raises(MasterError, match="broke off"):
                await store.sync(url + "/x.csv", TODAY)

    asyncio.run(test())
    assert store.count() == 0


@pytest.mark.parametrize("status", [404, 500, 403, 204])
def test_a_download_that_is_refused_says_so(store: InstrumentStore, status: int) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async def test() -> None:
        async with http_server(answer) as (url, _):
            with pytest.raises(MasterError, match=f"status {status}"):
                await store.sync(url + "/x.csv", TODAY)

    asyncio.run(test())


def test_a_redirect_within_the_host_is_followed_and_no_other(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        targets = {"/a": "/b", "/evil": "http://evil.example/b", "/loop": "/loop", "/file": "file:///etc/passwd"}
        if request.path in targets:
            return web.Response(status=302, headers={"Location": targets[request.path]})
        return web.Response(body=BODY)

    async def test() -> None:
        async with http_server(answer) as (url, _):
            await download(url + "/a", tmp_path / "a.csv")
            assert (tmp_path / "a.csv").read_bytes() == BODY
            for path, words in (("/evil", "unsafe"), ("/loop", "too many"), ("/file", "unsafe")):
                with pytest.raises(MasterError, match=words):
                    await download(url + path, tmp_path / "b.csv")

    asyncio.run(test())


@pytest.mark.parametrize("url", ["http://images.dhan.co/x.csv", "ftp://127.0.0.1/x", "http://127.0.0.1:9/x"])
def test_an_address_that_cannot_be_used_is_a_master_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(MasterError):
        asyncio.run(download(url, tmp_path / "x.csv"))


def test_a_network_that_is_down_is_said_with_the_address_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MasterError) as failed:
        asyncio.run(download("http://127.0.0.1:9/x.csv", tmp_path / "x.csv"))

    where = "the instruments cannot be downloaded from http://127.0.0.1:9/x.csv: "
    assert str(failed.value).startswith(where)
    assert str(failed.value).endswith(
        "; look at the network and at the address, which is dhan.instruments_url or --from"
    )
    assert "Error" not in str(failed.value)
