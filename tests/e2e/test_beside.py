"""What a session has beside its copier, over real sockets: alerts that arrive, a log, the day's summary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web

from copytrader.beside import _seconds_to_close
from copytrader.core.model import IST
from tests.e2e.stage import D, Stage


@asynccontextmanager
async def mailbox(seconds: float = 0) -> AsyncIterator[tuple[str, list[str]]]:
    """An address for alerts, and what has come there."""
    texts: list[str] = []

    async def take(request: web.Request) -> web.Response:
        texts.append((await request.json())["message"])
        await asyncio.sleep(seconds)
        return web.Response()

    application = web.Application()
    application.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"json://127.0.0.1:{runner.addresses[0][1]}/hush-hush", texts
    finally:
        await runner.cleanup()


def add(stage: Stage, text: str) -> None:
    stage.config.write_text(stage.config.read_text().replace("[leader]", f"{text}\n[leader]", 1))


def test_alerts_arrive_and_the_day_is_summed_up_at_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage, mailbox() as (url, texts):
            add(stage, f'[alerts]\nurls = ["{url}"]')
            stage.config.write_text(f'log = "follow.log"\n{stage.config.read_text()}')
            follow = await stage.follows()
            stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(95))
            await stage.until(lambda: stage.orders("asha") and stage.orders("ravi"), what="copied")
            stage.exchange.expire_token(stage.ids["asha"])
            await stage.until(
                lambda: any("CRITICAL: asha: the broker refuses" in text for text in texts), what="alerted"
            )
            assert await follow.stops() == 0

            last = "\n".join(texts)
            assert "follow was stopped. " in last
            assert "1 order of the leader. asha: 1 copy" in last
            assert "1 critical" in last
            assert "asha: open: BUY 150 NIFTY" in last
            assert any(line.startswith("follow was stopped. ") for line in follow.err)

            logged = (tmp_path / "follow.log").read_text()
            for words in (
                "copying 1000000001 to asha, ravi",
                "leader placed BUY 150",
                "CRITICAL: asha: ",
                "follow was stopped",
            ):
                assert words in logged
            assert "hush-hush" not in logged + "\n".join(follow.err)
            assert "simulated-token" not in logged

    asyncio.run(test())


def test_a_follow_that_cannot_go_on_says_so_to_whoever_gets_alerts(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path) as stage, mailbox() as (url, texts):
            add(stage, f'[alerts]\nurls = ["{url}"]\nlevel = "CRITICAL"')
            stage.exchange.expire_token(stage.ids["leader"])
            follow = await stage.runs("follow")
            assert await follow.ends() == 4
            assert len(texts) == 1
            assert texts[0].startswith(
                "CRITICAL: follow has ended and copies nothing: leader.access_token is not accepted"
            )

    asyncio.run(test())


def test_a_dead_notifier_delays_no_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1") as stage, mailbox(seconds=60) as (url, texts):
            add(stage, f'[alerts]\nurls = ["{url}", "json://127.0.0.1:9/x"]\nlevel = "INFO"')
            follow = await stage.follows()
            stage.exchange.set_token(stage.ids["leader"], "second-token")  # an alert that nobody takes
            await stage.until(lambda: texts, what="the dead one was tried")
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(95))
            await follow.says("asha: not copied, TOKEN", 3)
            assert await follow.stops() == 0

    asyncio.run(test())


def test_a_lot_that_changed_is_listed_and_alerted_where_a_position_is_held_from_copying(tmp_path: Path) -> None:
    async def test() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            follow = await stage.follows()
            stage.exchange.set_price("NSE_FNO", "40001", D(90))
            for security in ("40001", "40002"):
                stage.leader.place("NSE_FNO", security, "BUY", 150, "LIMIT", D(200))
            await stage.until(lambda: stage.copied() == 300, what="filled")
            await stage.settles()
            assert await follow.stops() == 0

            for security in ("40001", "40003"):
                row = stage.exchange.instruments["NSE_FNO", security]
                stage.exchange.instruments["NSE_FNO", security] = replace(row, lot_size=50)
            sync = await stage.runs("instruments", "sync")
            assert await sync.ends() == 0
            changed = [line for line in sync.out if "lot size" in line]
            assert len(changed) == 2
            held = [line for line in sync.err if "from copying" in line]
            assert (
                len([line for line in held if "the lot size was 75 and is 50; asha holds +150 from copying" in line])
                == 1
            )
            assert not [line for line in held if "25500" in line]

            follow = await stage.follows()
            await follow.says("WARNING: NIFTY-.*-25000-CE: the lot size was 75 and is 50; asha holds .150 from copying")
            stage.leader.place("NSE_FNO", "40001", "SELL", 150, "LIMIT", D(10))
            await stage.until(lambda: stage.copied(security_id="40001") == 0, what="got out by the new lots")
            assert await follow.stops() == 0
            assert stage.exchange.violations == []

    asyncio.run(test())


def test_the_close_is_today_or_tomorrow() -> None:
    at = datetime(2026, 11, 24, 15, 39, tzinfo=IST)
    assert _seconds_to_close(at) == 60
    assert _seconds_to_close(at + timedelta(minutes=1)) == timedelta(days=1).total_seconds()
    assert json.dumps(_seconds_to_close(at + timedelta(minutes=2))) == "86340.0"
