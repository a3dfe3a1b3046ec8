"""A session in which everything goes wrong tells no token to anybody.

Every stage looks for its accounts' tokens when it ends, so that each end-to-end test is a test of this too.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from copytrader.simulator import Fault, FaultKind, token_of
from copytrader.simulator.streams import Break
from tests.e2e.stage import PATIENCE, Stage

D = Decimal
K = FaultKind


def test_no_token_is_told_though_the_broker_echoes_it(tmp_path: Path) -> None:
    """In refusals, in pages, in order rows, in frames, at start and at the end."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 1") as stage:
            program = await stage.follows(env={"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"})
            for name in ("asha", "ravi", "leader"):
                token, client_id = token_of(stage.ids[name]), stage.ids[name]
                echo = f"Request of {token} refused"
                stage.exchange.script(
                    Fault(K.ERROR, client_id, "POST", "/orders", accept=False, code="DH-905", message=echo)
                )
                stage.exchange.script(
                    Fault(K.BODY, client_id, "GET", "/orders", status=500, body=f'{{"token":"{token}"}}')
                )
                stage.exchange.push_raw(client_id, f"no frame: {token}")
                stage.exchange.push_raw(client_id, f'{{"Data": {{"orderNo": "{token}"}}, "Type": "order_alert"}}')
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(90))
            await program.says("asha: .*REFUSED", PATIENCE)
            stage.exchange.script(Fault(K.CLOSE, method="POST", path="/orders", count=2))
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(91))
            await stage.until(lambda: stage.orders("asha") and stage.orders("ravi"), PATIENCE)
            stage.exchange.streams.break_all(Break("reset"))
            stage.exchange.expire_token(stage.ids["asha"], break_streams=True)
            await program.says("copytrader login asha", PATIENCE)
            assert await program.stops() == 0
            assert stage.leaks() == []

    asyncio.run(scene())


def test_the_watch_for_leaks_sees_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            (tmp_path / "log").write_text(f"token {token_of(stage.ids['asha'])}")
            assert stage.leaks() == [str(tmp_path / "log")]
            (tmp_path / "log").unlink()

    asyncio.run(scene())
