"""What a running follow does about its tokens: new ones, another account's, ended ones, and addresses Dhan refuses."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from copytrader import renewal, session, tokens
from copytrader.config import load
from copytrader.core.model import IST
from copytrader.dhan import bodies
from copytrader.simulator import Fault, FaultKind, token_of
from tests.e2e.stage import PATIENCE, D, Program, Stage

LATER = timedelta(hours=23)


def logged_in(stage: Stage, *names: str) -> None:
    """Take the tokens of these accounts out of the configuration, as after `copytrader login`."""
    text = stage.config.read_text()
    for name in names:
        token = token_of(stage.ids[name])
        assert token in text
        text = text.replace(f'access_token = "{token}"\n', "")
        store(stage, name, token)
    stage.config.write_text(text)


def store(stage: Stage, name: str, token: str) -> None:
    env = {tokens.STATE_DIR: str(stage.folder / "state")}
    tokens.store_token(stage.ids[name], SecretStr(token), datetime.now(IST) + LATER, env)


def mint(stage: Stage, name: str, token: str) -> None:
    """A new token at the broker; the one before is dead."""
    stage.exchange.set_token(stage.ids[name], token)


def entry(stage: Stage) -> str:
    return stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(95))


async def said(program: Program, pattern: str, seconds: float = 15) -> str:
    return await program.says(pattern, seconds)


def test_a_follower_whose_token_died_is_copied_again_once_a_new_one_is_stored(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            logged_in(stage, "leader", "asha", "ravi")
            follow = await stage.follows()
            mint(stage, "asha", "second-token-of-asha")
            await said(follow, "CRITICAL.*asha: the broker refuses the access token")
            entry(stage)
            await said(follow, "asha: not copied, TOKEN")
            await stage.until(lambda: stage.orders("ravi"), what="the other follower is copied")
            assert stage.orders("asha") == []

            store(stage, "asha", "second-token-of-asha")
            await said(follow, "asha: a new access token is in use, valid until")
            await stage.until(lambda: stage.orders("asha"), what="the resting entry is copied after all")
            assert await follow.stops() == 0
            assert stage.exchange.violations == []
            assert not [line for line in follow.err + follow.out if "second-token" in line]

    asyncio.run(test())


def test_a_leader_whose_token_died_holds_back_entries_until_a_new_one_is_stored(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            logged_in(stage, "leader", "asha")
            follow = await stage.follows()
            mint(stage, "leader", "second-token-of-leader")
            told = await said(follow, "CRITICAL.*leader: the broker refuses the token")
            assert "no entry is copied until it is mended" in told
            entry(stage)  # the old socket still tells of it
            await said(follow, "asha: not copied, TOKEN: BUY .*: the broker refuses the leader's access token")
            await asyncio.sleep(2.5)
            assert len([line for line in follow.err if "leader: the broker refuses the token" in line]) == 1
            assert stage.orders() == []

            store(stage, "leader", "second-token-of-leader")
            await said(follow, "leader: a new access token is in use")
            await stage.until(stage.orders, what="the resting entry is copied after all")
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(94))
            await stage.until(lambda: len(stage.orders()) == 2, what="the stream is logged in again")
            assert await follow.stops() == 0
            assert stage.exchange.violations == []

    asyncio.run(test())


def test_a_token_that_is_refused_at_the_start_is_one_alert_with_one_remedy(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            stage.exchange.expire_token(stage.ids["asha"])
            follow = await stage.follows()
            assert await follow.stops() == 0

            (told,) = (line for line in follow.err if "CRITICAL" in line)
            assert "asha: the broker refuses the access token: Dhan answered with status 401: DH-901 " in told
            assert told.endswith(
                "is invalid or expired; nothing more is sent for asha until it is mended: copytrader login asha"
            )

    asyncio.run(test())


def test_another_accounts_token_is_not_used(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            logged_in(stage, "asha", "ravi")
            follow = await stage.follows()
            store(stage, "asha", token_of(stage.ids["ravi"]))
            told = await said(follow, "CRITICAL.*asha: the new access token belongs to client")
            assert f"{stage.ids['ravi']}, not to {stage.ids['asha']}: not used" in told
            entry(stage)
            await stage.until(lambda: stage.orders("asha") and stage.orders("ravi"), what="both are copied as before")
            assert len(stage.orders("ravi")) == 1
            assert await follow.stops() == 0
            assert stage.exchange.violations == []

    asyncio.run(test())


async def loses_its_journal_and_a_token(stage: Stage) -> tuple[str, str]:
    """Two followers hold and have a stop and an entry open when all is lost; ravi's token is dead then."""
    logged_in(stage, "leader", "asha", "ravi")
    program = await stage.follows()
    stage.leader.place("NSE_FNO", "40002", "BUY", 150)
    await stage.until(lambda: [stage.copied(name) for name in stage.names] == [150, 150], PATIENCE, "the positions")
    stop = stage.leader.place("NSE_FNO", "40002", "SELL", 150, "STOP_LOSS", D(44), D(45))
    resting = entry(stage)
    await stage.until(lambda: [len(stage.orders(name)) for name in stage.names] == [3, 3], PATIENCE, "the copies")
    await stage.settles()
    await program.killed()
    for file in stage.folder.glob("copytrader.db*"):
        file.unlink()
    mint(stage, "ravi", "second-token-of-ravi")
    return stop, resting


@pytest.mark.parametrize("is_out", [False, True])
def test_what_was_lost_is_adopted_once_the_account_can_be_read(tmp_path: Path, is_out: bool) -> None:
    """A follower's token is dead when follow starts with --adopt; the leader may be out before there is a new one."""

    async def test() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            stop, resting = await loses_its_journal_and_a_token(stage)
            follow = await stage.follows("--adopt")
            await said(follow, "^copying .* to asha; not yet to ravi")
            if is_out:
                stage.leader.cancel(stop)
                stage.leader.place("NSE_FNO", "40002", "SELL", 150)
                await stage.until(lambda: stage.copied() == 0, PATIENCE, "the exit of the one that can be read")
            store(stage, "ravi", "second-token-of-ravi")
            await said(follow, "ravi: a new access token is in use")
            if not is_out:
                await stage.until(lambda: working(stage) == [("SELL", D(44))], PATIENCE, "the stop is ours again")
                stage.leader.modify(stop, price=D(46), trigger_price=D(47))
                await stage.until(lambda: working(stage) == [("SELL", D(46))], PATIENCE, "it is trailed")
                stage.leader.cancel(stop)
                stage.leader.place("NSE_FNO", "40002", "SELL", 150)
            await stage.until(lambda: stage.copied("ravi") == 0, PATIENCE, "the exit")
            stage.leader.cancel(resting)
            await stage.settles()
            assert [each for name in stage.names for each in stage.orders(name) if each.is_open] == []
            assert len(stage.orders("ravi")) == (4 if is_out else 5), "nothing twice: an exit, and the stop anew"
            assert await follow.stops() == 0
            assert stage.exchange.violations == []

    asyncio.run(test())


def working(stage: Stage) -> list[tuple[str, D]]:
    """Ravi's open copies."""
    return [(each.side, each.terms.price) for each in stage.orders("ravi") if each.is_open]


@pytest.mark.parametrize("command", ["follow", "reconcile", "audit verify --broker"])
def test_nothing_begins_with_another_accounts_token(tmp_path: Path, command: str) -> None:
    """Its empty books would pass for those of the account: all in sync."""

    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            logged_in(stage, "asha")
            if command != "follow":
                assert await (await stage.follows()).stops() == 0
            store(stage, "asha", token_of(stage.ids["ravi"]))
            program = await stage.runs(*command.split())
            assert await program.ends() == 4
            assert program.err[-1] == (
                f"followers.asha.access_token belongs to client {stage.ids['ravi']}, not to {stage.ids['asha']}"
            )

    asyncio.run(test())


def test_a_token_that_the_broker_does_not_know_yet_is_turned_down_and_the_old_one_stays(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            logged_in(stage, "asha")
            follow = await stage.follows()
            store(stage, "asha", "never-made-by-anybody")
            await said(follow, "asha: the new access token is not accepted")
            entry(stage)
            await stage.until(stage.orders, what="the old token still works")
            assert await follow.stops() == 0

    asyncio.run(test())


def test_a_stored_token_behind_a_configured_one_is_pointed_out_and_taken_once_that_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            follow = await stage.follows()
            mint(stage, "asha", "second-token-of-asha")
            store(stage, "asha", "second-token-of-asha")
            told = await said(follow, "asha: a token was stored, but followers.asha.access_token")
            assert str(stage.config) in told
            text = stage.config.read_text().replace(f'access_token = "{token_of(stage.ids["asha"])}"\n', "")
            stage.config.write_text(text)
            await said(follow, "asha: a new access token is in use")
            entry(stage)
            await stage.until(stage.orders, what="copied with the stored token")
            assert await follow.stops() == 0

    asyncio.run(test())


def test_of_a_changed_configuration_only_the_tokens_are_taken(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            follow = await stage.follows()
            mint(stage, "asha", "second-token-of-asha")
            text = stage.config.read_text().replace(token_of(stage.ids["asha"]), "second-token-of-asha")
            stage.config.write_text(text.replace("ratio = 1", "ratio = 2"))
            await said(follow, "^the configuration has changed: follow takes new tokens from it now, the rest at its")
            await said(follow, "asha: a new access token is in use")
            entry(stage)
            await stage.until(stage.orders, what="copied")
            assert [order.terms.quantity for order in stage.orders()] == [150]
            stage.config.write_text("journal = 3")
            await said(
                follow, "^the configuration cannot be read: journal must be text.*going on with the tokens in use"
            )
            assert await follow.stops() == 0

    asyncio.run(test())


@pytest.mark.parametrize(("minutes", "level"), [(50, "WARNING"), (14, "WARNING"), (4, "CRITICAL")])
def test_the_end_of_a_token_is_told_beforehand(tmp_path: Path, minutes: int, level: str) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            account = stage.exchange.accounts[stage.ids["asha"]]
            account.token_expires_at = datetime.now(IST) + timedelta(minutes=minutes, seconds=50)
            follow = await stage.follows()
            told = await said(follow, f"{level}: asha: the access token ends at")
            at, left = re.search(r"ends at (\d\d:\d\d), in (\d+) min: run `copytrader login asha`", told).groups()  # type: ignore[union-attr]
            assert at == f"{account.token_expires_at:%H:%M}"
            assert abs(int(left) - minutes) <= 1
            assert f"take followers.asha.access_token out of {stage.config}" in told
            await asyncio.sleep(2.2)
            assert len([line for line in follow.err if "the access token ends" in line]) == 1
            assert await follow.stops() == 0

    asyncio.run(test())


# --- In this process, where time can be pressed ------------------------------------------


@asynccontextmanager
async def following(stage: Stage) -> AsyncIterator[list[str]]:
    lines: list[str] = []
    stop = asyncio.Event()

    def watch(_copier: object) -> object:
        def tell(_event: object, decisions: list[object]) -> None:
            lines.extend(getattr(decision, "text", "") for decision in decisions)

        return tell

    options = session.Options()
    running = asyncio.ensure_future(session.run(load(stage.config), options, lines.append, watch, stop))  # type: ignore[arg-type]
    try:
        await until(lines, "^copying")
        yield lines
    finally:
        stop.set()
        await running


async def until(lines: list[str], pattern: str, seconds: float = 15) -> str:
    async with asyncio.timeout(seconds):
        while True:
            found = [line for line in lines if re.search(pattern, line)]
            if found:
                return found[0]
            await asyncio.sleep(0.01)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(renewal, "AGAIN", timedelta(seconds=0.2))
    monkeypatch.setattr(renewal, "EVERY", 0.05)
    monkeypatch.setitem(os.environ, tokens.STATE_DIR, str(tmp_path / "state"))


def test_a_token_that_ends_is_noticed_at_its_end_even_if_nothing_is_polled(hurried: None, tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 0") as stage:
            account = stage.exchange.accounts[stage.ids["asha"]]
            # What the broker tells is cut to the minute: the token lives on for some seconds after that.
            account.token_expires_at = datetime.now(IST) + timedelta(seconds=4)
            async with following(stage) as lines:
                assert not [line for line in lines if "refuses" in line]
                await until(lines, "asha: the broker refuses the access token")

    asyncio.run(test())


def test_a_follower_whose_address_is_refused_is_copied_again_once_it_is_whitelisted(
    hurried: None, tmp_path: Path
) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            account = stage.exchange.accounts[stage.ids["asha"]]
            account.allowed_peers = ("203.0.113.7",)
            async with following(stage) as lines:
                entry(stage)
                told = await until(lines, r"asha: the broker refuses the address \(static IP\)")
                assert "nothing more is sent for asha until it is mended" in told
                await stage.until(lambda: stage.orders("ravi"), what="the other follower is copied")
                await asyncio.sleep(1)
                assert not [line for line in lines if "accepts the account again" in line]
                account.allowed_peers = ("127.0.0.1",)
                await until(lines, "asha: the broker accepts the account again")
                assert stage.orders("asha") == [], "a refusal is never repeated"
                entry(stage)
                await stage.until(lambda: len(stage.orders("asha")) == 1, what="the next entry is copied")
            assert stage.exchange.violations == []

    asyncio.run(test())


def test_a_passing_refusal_of_a_good_token_mends_itself(hurried: None, tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage:
            fault = Fault(FaultKind.ERROR, method="GET", path="/orders", code="DH-901", status=401, count=1)
            async with following(stage) as lines:
                stage.exchange.script(fault)
                await until(lines, "the broker refuses")
                await until(lines, "the broker accepts the account again")
                entry(stage)
                await stage.until(stage.orders, what="copied")

    asyncio.run(test())


def test_an_exit_goes_once_an_address_may_be_right_though_dhan_does_not_say_so(
    hurried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One order was refused for its address; /ip/getIP answers as it is documented, without a word on orders."""
    documented = bodies.read_ip
    monkeypatch.setattr(
        bodies, "read_ip", lambda body: replace(documented(body), detected="", match="", orders_allowed=None)
    )

    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage, following(stage) as lines:
            stage.leader.place("NSE_FNO", "40001", "BUY", 75)
            await stage.until(lambda: stage.copied() == 75, what="the entry is copied")
            refusal = Fault(
                FaultKind.ERROR,
                client_id=stage.ids["asha"],
                method="POST",
                path="/orders",
                code="DH-905",
                message="Invalid IP",
            )
            stage.exchange.script(replace(refusal, accept=False))
            stage.leader.place("NSE_FNO", "40001", "SELL", 75)
            await until(lines, "orders are tried again: Dhan does not say whether")
            await stage.until(lambda: stage.copied() == 0, what="the exit goes")

    asyncio.run(test())


def test_books_that_a_token_does_not_open_are_named_with_their_account(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            follow = await stage.follows()
            await follow.stops()
            mint(stage, "ravi", "second-token-of-ravi")

            verify = await stage.runs("audit", "verify", "--broker")

            assert await verify.ends() == 4
            (line,) = verify.err
            assert line.startswith("ravi: ")

    asyncio.run(test())
