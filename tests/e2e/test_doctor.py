"""`copytrader doctor` and what it finds, each thing rehearsed at the simulator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from copytrader import doctor, login, tokens
from copytrader.config import load
from copytrader.core.facts import Halted
from copytrader.core.model import IST
from copytrader.dhan.bodies import Profile
from copytrader.doctor import Check, Status, accounts, journal, machine, market, together
from copytrader.doctor.accounts import Found
from copytrader.journal import Journal
from copytrader.simulator import Fault, FaultKind, token_of
from tests.e2e.stage import D, Stage

Prepare = Callable[[Stage], None]


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(tokens.STATE_DIR, str(tmp_path / "state"))


async def examined(stage: Stage) -> dict[str, Check]:
    return {check.check: check for check in await doctor.examine(stage.config)}


def not_fine(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.status is not Status.OK]


def test_all_is_well_once_the_instruments_are_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            assert not_fine(await examined(stage)) == ["instruments"]
            assert await (await stage.runs("instruments", "sync")).ends() == 0
            checks = await examined(stage)
            assert not_fine(checks) == []
            assert list(checks)[:9] == [
                *("configuration", "permissions", "lock", "journal", "instruments", "disk", "calendar", "alerts"),
                "token of leader",
            ]
            assert {"order updates of asha", "funds of ravi", "address of asha", "segments of ravi", "clock"} <= set(
                checks
            )
            assert all(not check.remedy for check in checks.values())
            assert stage.requests() == []
            assert stage.exchange.violations == []

    asyncio.run(test())


def test_its_document_and_its_exit_codes(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            fine = await stage.runs("doctor", "--json")
            assert await fine.ends() == 0
            rows = json.loads("\n".join(fine.out))
            assert all(set(row) == {"check", "status", "detail", "remedy"} for row in rows)
            assert {row["status"] for row in rows} == {"ok", "warn"}

            Journal.open(stage.folder / "copytrader.db").close()
            Journal.leave_word(stage.folder / "copytrader.db", Halted(datetime.now(IST), "asha"))
            follow = await stage.follows()
            await follow.stops()
            halted = await stage.runs("doctor")
            assert await halted.ends() == 3
            assert any(line.startswith("FAIL  halt") and "asha" in line for line in halted.out)
            assert any(line.endswith("-> copytrader resume") for line in halted.out)
            assert halted.err[-1].endswith("1 failed, 0 with a warning")

            stage.exchange.expire_token(stage.ids["asha"])
            expired = await stage.runs("doctor")
            assert await expired.ends() == 4

    asyncio.run(test())


def expire(stage: Stage) -> None:
    stage.exchange.expire_token(stage.ids["asha"])


def soon_over(stage: Stage) -> None:
    stage.exchange.accounts[stage.ids["asha"]].token_expires_at = datetime.now(IST) + timedelta(minutes=20)


def of_another(stage: Stage) -> None:
    text = stage.config.read_text()
    stage.config.write_text(text.replace(token_of(stage.ids["asha"]), token_of(stage.ids["ravi"])))


def taken_out(stage: Stage) -> None:
    text = stage.config.read_text()
    stage.config.write_text(text.replace(f'access_token = "{token_of(stage.ids["asha"])}"', ""))


def foreign_address(stage: Stage) -> None:
    stage.exchange.accounts[stage.ids["asha"]].allowed_peers = ("203.0.113.7", "203.0.113.8")


def no_address(stage: Stage) -> None:
    stage.exchange.accounts[stage.ids["asha"]].allowed_peers = ()


def shadowed(stage: Stage) -> None:
    tokens.store_token(stage.ids["asha"], SecretStr("a-newer-one"), datetime.now(IST) + timedelta(hours=40))


def damaged(stage: Stage) -> None:
    taken_out(stage)
    shadowed(stage)
    path = tokens.state_dir() / "tokens" / stage.ids["asha"]
    path.write_text("{")


def readable(stage: Stage) -> None:
    (stage.folder / "copytrader.db").touch(0o644)
    Path(stage.folder / "copytrader.db").chmod(0o644)


def no_folder(stage: Stage) -> None:
    stage.config.write_text('journal = "none/copytrader.db"\n' + stage.config.read_text())


def is_folder(stage: Stage) -> None:
    (stage.folder / "place").mkdir(mode=0o755)
    stage.config.write_text('journal = "place"\n' + stage.config.read_text())


def no_regular_file(stage: Stage) -> None:
    os.mkfifo(stage.folder / "pipe")
    stage.config.write_text('journal = "pipe"\n' + stage.config.read_text())


def readable_token(stage: Stage) -> None:
    taken_out(stage)
    shadowed(stage)
    (tokens.state_dir() / "tokens" / stage.ids["asha"]).chmod(0o644)


def no_log(stage: Stage) -> None:
    stage.config.write_text(f'log = "{stage.folder}"\n' + stage.config.read_text())


def nobody(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace("[followers.asha]", "[followers.asha]\nenabled = false"))


def unknown_address(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text() + '[alerts]\nurls = ["carrier-pigeon://x"]\n')


def unreachable(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace(f"{stage.url}/v2", "http://127.0.0.1:9/v2"))


CASES: list[tuple[Prepare, str, Status, bool, str, str]] = [
    (
        expire,
        "token of asha",
        Status.FAIL,
        True,
        "DH-901",
        "copytrader login asha, and take followers.asha.access_token",
    ),
    (soon_over, "token of asha", Status.WARN, False, "(0 h 1", "copytrader login asha --new"),
    (of_another, "client id of asha", Status.FAIL, True, "1000000003, not to 1000000002", "copytrader login asha"),
    (taken_out, "token of asha", Status.FAIL, True, "there is none", "copytrader login asha"),
    (damaged, "token of asha", Status.FAIL, True, "is damaged", "copytrader login asha"),
    (shadowed, "token of asha", Status.WARN, False, "a newer one is stored", "take followers.asha.access_token out of"),
    (
        foreign_address,
        "address of asha",
        Status.FAIL,
        True,
        "Dhan sees 127.0.0.1, registered is 203",
        "register 127.0.0.1",
    ),
    (no_address, "address of asha", Status.FAIL, True, "no static IP is registered", "register 127.0.0.1 at Dhan"),
    (readable, "permissions", Status.WARN, False, "others can read", "chmod 600"),
    (no_folder, "journal", Status.OK, False, "`copytrader follow` creates it and its directory", ""),
    (is_folder, "journal", Status.FAIL, False, "is not a file", ""),
    (no_regular_file, "journal", Status.FAIL, False, "pipe is not a file", ""),
    (readable_token, "token of asha", Status.FAIL, True, "can be read by others", "run chmod 600 /"),
    (no_log, "log", Status.FAIL, False, "cannot be written", "name another file in `log`"),
    (nobody, "configuration", Status.FAIL, False, "has nobody enabled", "change "),
    (unknown_address, "alerts", Status.FAIL, False, "alerts.urls number 1: no address", "see https://appriseit.com"),
    (unreachable, "Dhan for asha", Status.FAIL, False, "no connection", "check the network"),
]


@pytest.mark.parametrize(
    ("prepare", "check", "status", "is_access", "detail", "remedy"), CASES, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_thing_that_is_wrong_is_found_and_has_its_remedy(
    tmp_path: Path, prepare: Prepare, check: str, status: Status, is_access: bool, detail: str, remedy: str
) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1") if prepare is of_another else ("1",)) as stage:
            prepare(stage)
            found = (await examined(stage))[check]
            assert (found.status, found.is_access) == (status, is_access)
            assert detail in found.detail
            assert remedy in found.remedy
            shown = " ".join(str(each) for each in (await examined(stage)).values())
            assert "simulated-token" not in shown

    asyncio.run(test())


def test_a_login_to_the_order_updates_that_is_refused_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            stage.exchange.streams.refuse_handshakes(503, 99)
            found = (await examined(stage))["order updates of asha"]
            assert found.status is Status.FAIL
            assert found.detail == "Dhan refused the connection with status 503"

    asyncio.run(test())


def test_a_broker_that_does_not_answer_costs_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "PATIENCE", 0.5)

    async def test() -> None:
        async with Stage(tmp_path) as stage:
            stage.exchange.script(Fault(FaultKind.HANG, method="GET", path="/profile", count=None))
            found = await examined(stage)
            assert found["Dhan for asha"].detail == "no answer within 0 s"
            assert found["Dhan for leader"].status is Status.FAIL

    asyncio.run(test())


def test_a_lock_that_cannot_be_taken_is_no_copier_that_runs(tmp_path: Path) -> None:
    """As on a disk that may only be read: `follow` will not start, and nobody listens."""

    async def test() -> None:
        async with Stage(tmp_path) as stage:
            (stage.folder / "copytrader.db.lock").mkdir()
            checks = await examined(stage)
            assert checks["lock"].status is Status.FAIL
            assert "copytrader.db.lock cannot be locked: Is a directory" in checks["lock"].detail
            assert "you may write to" in checks["lock"].remedy
            assert "not tried" not in checks["order updates of asha"].detail

    asyncio.run(test())


def test_a_running_follow_is_named_and_its_streams_are_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.follows()
            before = len([row for row in stage.exchange.ledger if row.kind == "login"])
            checks = await examined(stage)
            assert "in use by `copytrader follow`, process" in checks["lock"].detail
            assert checks["lock"].status is Status.OK
            assert checks["order updates of asha"].detail == "not tried: a running copier listens"
            assert len([row for row in stage.exchange.ledger if row.kind == "login"]) == before
            assert checks["journal"].status is Status.OK
            assert await follow.stops() == 0

    asyncio.run(test())


def test_what_the_last_session_left_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(95))
            await stage.until(stage.orders, what="copied")
            await stage.settles()
            await follow.killed()
            checks = await examined(stage)
            assert "asha: open: BUY" in checks["left from before"].detail
            assert checks["unknown outcomes"].status is Status.OK

    asyncio.run(test())


@pytest.mark.parametrize(
    ("before", "after", "check", "status"),
    [
        ("[followers.ravi]", "[followers.ravi]\nenabled = false", "left out", Status.WARN),
        ("[followers.ravi", "[followers.mira", "names", Status.FAIL),
    ],
)
def test_what_is_held_by_a_name_that_is_served_no_longer_is_told(
    tmp_path: Path, before: str, after: str, check: str, status: Status
) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("0.5", "0.5")) as stage:
            follow = await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 150)
            await stage.until(lambda: stage.copied("ravi") == 75)
            await follow.stops()
            stage.config.write_text(stage.config.read_text().replace(before, after))

            found = await examined(stage)
            assert (found[check].status, "holds +75 " in found[check].detail) == (status, True)
            assert ("left out" in found) is (check == "left out")

    asyncio.run(test())


def test_a_journal_that_was_altered_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.follows()
            await follow.stops()
            journal = stage.folder / "copytrader.db"
            with closing(sqlite3.connect(journal, isolation_level=None)) as db:
                for (name,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
                    db.execute(f"drop trigger {name}")
                db.execute("update facts set body = replace(body, 'asha', 'ravi') where seq = 1")
            found = (await examined(stage))["journal"]
            assert found.status is Status.FAIL
            assert found.remedy

    asyncio.run(test())


def test_copies_that_the_journal_does_not_know_are_found_as_follow_finds_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            follow = await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(95))
            await stage.until(stage.orders, what="copied")
            await stage.settles()
            assert "orders of asha" not in await examined(stage)
            await follow.stops()
            found = await examined(stage)
            assert (found["orders of asha"].detail, "copies of asha" in found) == ("1 today, 1 of them copies", False)
            text = stage.config.read_text()
            for journal in ("new.db", "empty.db"):
                stage.config.write_text(f'journal = "{journal}"\n{text}')
                (stage.folder / "empty.db").touch(0o600)
                lost = (await examined(stage))["copies of asha"]
                assert lost.status is Status.FAIL
                assert lost.detail.endswith(f"this journal does not know: {stage.orders()[0].order_id}")
                assert "copytrader follow --adopt" in lost.remedy
                refused = await stage.runs("follow")
                assert await refused.ends() == 6

    asyncio.run(test())


def test_an_underlying_of_a_filter_that_no_instrument_has_is_warned_of(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            assert await (await stage.runs("instruments", "sync")).ends() == 0
            names = 'underlyings = ["NIFTY", "RELIANCE"]\nexclude_underlyings = ["NIFTYY"]'
            stage.config.write_text(f"{stage.config.read_text()}\n[followers.asha.filter]\n{names}\n")
            found = (await examined(stage))["filter of asha"]
            assert (found.status, found.detail) == (Status.WARN, "no instrument has the underlying NIFTYY")
            assert found.remedy.startswith("correct followers.asha.filter.exclude_underlyings; ")

    asyncio.run(test())


def test_segments_that_a_follower_lacks_are_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage:
            leader = Found("leader", profile=Profile("1", None, ("Equity", "Derivative")))
            asha = Found("asha", profile=Profile("2", None, ("Equity",)))
            (found,) = together._segments(load(stage.config), [leader, asha])
            assert found.status is Status.WARN
            assert found.detail == "Derivative not enabled: such orders will be refused"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("seconds", "status"), [(0.4, Status.OK), (-1.5, Status.OK), (3, Status.WARN), (-7, Status.FAIL), (40, Status.FAIL)]
)
def test_a_clock_that_is_off_is_found(seconds: float, status: Status) -> None:
    accounts = [Found("asha", clock_offset=timedelta(seconds=seconds)), Found("ravi")]
    (found,) = together._clock(accounts)
    assert found.status is status
    assert ("ahead" in found.detail) == (status is not Status.OK and seconds > 0)


def test_followers_that_leave_by_one_address_are_warned_of() -> None:
    accounts = [Found(name, detected="198.51.100.4") for name in ("asha", "ravi")]
    (found,) = together._shared_addresses([*accounts, Found("mira", detected="198.51.100.5")])
    assert found.detail == "asha, ravi all leave by 198.51.100.4"


def test_holidays_nobody_knows_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "now", lambda: datetime(2097, 5, 6, 9, 0, tzinfo=IST))
    found = market.holidays(None)
    assert found.status is Status.WARN
    assert found.detail == "the holidays of 2097 are not known: every weekday of it counts as a working day"


@pytest.mark.parametrize(
    ("day", "detail", "remedy"),
    [
        (23, "the holidays of 2026 are known", ""),
        (21, "today is no trading day: no entry is copied", "wait for Monday, 23 November"),
        (26, "today is no trading day: no entry is copied", "wait for Friday, 27 November"),
        (
            24,
            "no trading today in NSE_EQ, BSE_EQ, NSE_FNO, BSE_FNO, NSE_CURRENCY, BSE_CURRENCY: no entry there is copied",
            "wait for Wednesday, 25 November",
        ),
    ],
)
def test_a_day_without_trading_is_warned_of(
    day: int, detail: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "calendar.toml"
    own.write_text("[[closed]]\ndate = 2026-11-26\n")
    monkeypatch.setattr(login, "now", lambda: datetime(2026, 11, day, 9, 0, tzinfo=IST))

    found = market.holidays(own)

    assert (found.status, found.detail) == (Status.WARN if remedy else Status.OK, detail)
    assert found.remedy.startswith(remedy)


def test_an_empty_journal_is_warned_of(write_config: Callable[..., Path]) -> None:
    config = load(write_config())
    config.journal.touch()

    (found,) = journal.look(config)

    assert (found.status, found.remedy) == (Status.WARN, "restore a backup if it held anything")
    assert found.detail == f"{config.journal} is empty: `copytrader follow` begins it anew"


def test_a_journal_from_which_it_takes_long_to_begin_is_warned_of(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(write_config())
    with Journal.open(config.journal) as opened:
        for _ in range(3):
            opened.record(Halted(datetime.now(IST), "asha"))
    assert "length of the journal" not in [check.check for check in journal.look(config)]
    monkeypatch.setattr(journal, "MANY_FACTS", 2)
    monkeypatch.setattr(journal, "SECONDS_A_FACT", 4)

    (found,) = [check for check in journal.look(config) if check.check == "length of the journal"]

    assert (found.status, found.detail) == (
        Status.WARN,
        "3 facts are kept: `copytrader follow` takes about 12 s to begin",
    )
    assert found.status is Status.WARN
    assert "audit prune" in found.remedy


def test_little_room_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    for free, status in ((50 * 2**20, Status.FAIL), (500 * 2**20, Status.WARN), (2**31, Status.OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: usage._replace(free=free))
        assert machine.disk(tmp_path / "not" / "there").status is status


def test_it_works_before_anything_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    found = {check.check: check for check in asyncio.run(doctor.examine())}
    assert list(found) == ["configuration", "disk", "calendar"]
    assert found["configuration"].status is Status.FAIL
    assert found["configuration"].remedy == "write one with `copytrader init`"
    assert list(tmp_path.iterdir()) == []
    assert replace(found["disk"], detail="") == Check("disk", Status.OK, "")


def test_a_configuration_with_mistakes_names_them(tmp_path: Path) -> None:
    path = tmp_path / "copytrader.toml"
    path.write_text('[leader]\nclient_id = "1"\nclient = 2\n[copy]\npoll_seconds = -1\n')
    path.chmod(0o600)
    found = asyncio.run(doctor.examine(path))[0]
    assert found.status is Status.FAIL
    assert "leader.client is no key" in found.detail
    assert "copy.poll_seconds must be at least 0" in found.detail
    assert found.remedy == "mend these lines"
