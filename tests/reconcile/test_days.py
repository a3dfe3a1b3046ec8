"""Scripted days: what the picture says, and what `--fix` makes of it, judged on the simulator's book."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from copytrader.core.model import label
from copytrader.simulator import Exchange, Fault, FaultKind
from tests.audit.journals import alter
from tests.e2e.stage import Program, Stage

D = Decimal
OPTION = ("NSE_FNO", "40001")
OTHER = ("NSE_FNO", "40002")


def played(
    scene: Callable[[Stage], Awaitable[None]],
    folder: Path,
    ratios: Sequence[str] = ("0.5",),
    prepare: Callable[[Exchange], None] | None = None,
    copy: str = "",
    limits: str = "unlimited = true",
) -> None:
    async def run() -> None:
        async with Stage(folder, ratios, prepare=prepare, copy=copy, limits=limits) as stage:
            await scene(stage)
            assert stage.exchange.violations == []

    asyncio.run(run())


async def ended(stage: Stage, *arguments: str) -> tuple[int, Program]:
    program = await stage.runs(*arguments)
    return await program.ends(120), program


async def picture(stage: Stage, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, program = await ended(stage, "reconcile", "--json", *arguments)
    assert program.out, program.err
    document: dict[str, Any] = json.loads("\n".join(program.out))
    return code, document


async def fixed(stage: Stage, *arguments: str) -> dict[str, Any]:
    """Close the gap, and assert that this ends in sync."""
    code, document = await picture(stage, "--fix", "--yes", *arguments)
    assert code == 0, document
    assert document["in_sync"]
    return document


def row_of(document: dict[str, Any], follower: str = "asha", security_id: str = "40001") -> dict[str, Any]:
    rows: list[dict[str, Any]] = document["rows"]
    (row,) = [each for each in rows if (each["follower"], each["security_id"]) == (follower, security_id)]
    return row


def net(stage: Stage, name: str = "asha", security: tuple[str, str] = OPTION) -> int:
    nets = stage.exchange.nets(stage.ids[name]).values()
    return sum(each.quantity for each in nets if each.instrument.security == security)


def trades(stage: Stage, quantity: int, security: tuple[str, str] = OPTION) -> None:
    """Let the leader trade at market: + buys, - sells."""
    stage.leader.place(*security, "BUY" if quantity > 0 else "SELL", abs(quantity))


def test_accounts_that_agree_are_in_sync_and_own_positions_are_no_drift(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        code, document = await picture(stage)
        assert (code, document["in_sync"], document["rows"]) == (0, True, [])
        follow = await stage.follows()
        trades(stage, 150)
        await stage.until(lambda: stage.copied() == 75)
        stage.exchange.leader(stage.ids["asha"]).place(*OPTION, "SELL", 300)
        stage.exchange.leader(stage.ids["asha"]).place(*OTHER, "BUY", 75)
        await stage.settles()

        for _ in ("beside follow", "without it"):
            code, document = await picture(stage)
            row = row_of(document)
            assert (code, document["plan"]) == (0, [])
            assert (row["leader_quantity"], row["target_quantity"], row["copied_quantity"]) == (150, 75, 75)
            assert (row["own_quantity"], row["drift_quantity"], row["state"]) == (-300, 0, "own")
            assert row_of(document, security_id="40002")["state"] == "own"
            await follow.stops()

    played(scene, tmp_path)


def test_a_journal_that_was_altered_is_said_with_the_picture(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 150)
        await stage.until(lambda: stage.copied() == 75)
        await stage.settles()
        await follow.stops()
        code, program = await ended(stage, "reconcile")
        assert (code, program.err) == (0, [])
        alter(stage.folder / "copytrader.db", "UPDATE facts SET body = replace(body, '75', '85') WHERE kind = 'Place'")

        code, program = await ended(stage, "reconcile")
        assert (code, len(program.out) > 0) == (0, True)
        (said,) = program.err
        assert "copytrader.db: fact " in said
        assert "what follows may be wrong: look at `copytrader audit verify`" in said

    played(scene, tmp_path)


def test_a_symbol_that_is_none_is_refused_and_one_that_nobody_holds_is_in_sync(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        code, program = await ended(stage, "reconcile", "--symbol", "NIFTTY")
        assert (code, program.out) == (2, [])
        assert "--symbol NIFTTY: the instrument master has no such symbol" in program.err[-1]

        listed = stage.exchange.instruments[OPTION]
        for name in ("nifty", "40001", listed.symbol, label(listed.symbol, listed.expiry)):
            code, program = await ended(stage, "reconcile", "--symbol", name)
            assert (code, program.out) == (0, [f"in sync: nothing of {name} is held and nothing works"])

    played(scene, tmp_path)


def test_two_expiries_of_one_name_are_told_apart_and_either_can_be_asked_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        both = [stage.exchange.instruments["NSE_FNO", number] for number in ("40001", "40101")]
        trades(stage, both[0].lot_size * 2, both[0].security)
        trades(stage, both[1].lot_size * 4, both[1].security)
        labels = [label(each.symbol, each.expiry) for each in both]
        assert len({*labels}) == 2

        code, program = await ended(stage, "reconcile")
        assert (code, all(any(each in line for line in program.out) for each in labels)) == (3, True), program.out

        for each, name in zip(both, labels, strict=True):
            _, document = await picture(stage, "--symbol", name)
            (row,) = document["rows"]
            assert (row["security_id"], row["symbol"]) == (each.security_id, each.symbol)
            assert row["expiry"] == str(each.expiry)

    played(scene, tmp_path)


def test_a_missed_entry_is_named_and_bought_without_a_follow(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 300)

        code, document = await picture(stage)
        row = row_of(document)
        assert code == 3
        assert (row["target_quantity"], row["copied_quantity"], row["drift_quantity"]) == (150, 0, -150)
        assert row["state"] == "drift"
        assert "came while nothing was copied" in row["why"]
        assert [(step["action"], step["side"], step["quantity"]) for step in document["plan"]] == [
            ("ENTRY", "BUY", 150)
        ]

        await fixed(stage)
        assert (net(stage), stage.copied(), len(stage.orders())) == (150, 150, 1)
        await fixed(stage)
        assert len(stage.orders()) == 1

        # A follow that starts later leaves it alone, and passes on the leader's exit.
        await stage.follows()
        await stage.settles(2)
        assert stage.copied() == 150
        trades(stage, -300)
        await stage.until(lambda: stage.copied() == 0)

    played(scene, tmp_path)


def test_a_missed_exit_is_named_and_sold_before_anything_is_bought(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 300)
        await stage.until(lambda: stage.copied() == 150)
        await follow.killed()
        trades(stage, -300)
        trades(stage, 150, OTHER)

        code, document = await picture(stage)
        row = row_of(document)
        assert code == 3
        assert (row["leader_quantity"], row["target_quantity"], row["drift_quantity"]) == (0, 0, 150)
        assert "came while nothing was copied" in row["why"]
        assert [step["action"] for step in document["plan"]] == ["EXIT", "ENTRY"]

        await fixed(stage)
        assert (net(stage), net(stage, security=OTHER)) == (0, 75)
        assert [order.side for order in stage.orders()] == ["BUY", "SELL", "BUY"]

    played(scene, tmp_path)


def manual(exchange: Exchange) -> None:
    for number, account in enumerate(exchange.accounts.values()):
        account.fill_policy = "manual" if number else "cross"


def test_a_copy_that_filled_in_part_is_cancelled_and_the_rest_bought(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        stage.leader.place(*OPTION, "BUY", 300, "LIMIT", D(200))
        await stage.until(lambda: len(stage.orders()) == 1 and stage.orders()[0].status == "PENDING")
        stage.exchange.fill(stage.orders()[0].order_id, 75, D(110))
        await stage.settles()
        code, document = await picture(stage)
        assert (code, row_of(document)["state"]) == (3, "pending")
        assert "its copy is still open, 75 of 150 filled" in row_of(document)["why"]
        assert document["plan"] == []
        await follow.stops()
        await asyncio.sleep(10)

        code, document = await picture(stage)
        assert [step["action"] for step in document["plan"]] == ["CANCEL", "ENTRY"]
        stage.exchange.accounts[stage.ids["asha"]].fill_policy = "cross"
        await fixed(stage)
        first, second = stage.orders()
        assert (first.status, first.filled, second.status, second.filled) == ("CANCELLED", 75, "TRADED", 75)

    played(scene, tmp_path, prepare=manual)


def test_a_rejected_leg_is_named_with_the_broker_s_words_and_placed_again_on_request(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.follows()
        stage.exchange.script(
            Fault(FaultKind.REJECT_LATER, method="POST", path="/orders", message="RMS: margin shortfall")
        )
        trades(stage, 150)
        await stage.until(lambda: bool(stage.orders()) and stage.orders()[0].status == "REJECTED")
        await stage.settles()

        code, document = await picture(stage)
        assert (code, row_of(document)["state"]) == (3, "drift")
        assert "margin shortfall" in row_of(document)["why"]

        document = await fixed(stage)
        assert [done["outcome"] for done in document["done"]] == ["traded"]
        assert net(stage) == 75
        trades(stage, -150)
        await stage.until(lambda: net(stage) == 0, what="follow exits what the plan bought")

    played(scene, tmp_path)


def test_a_manual_trade_in_the_same_instrument_is_left_alone(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 300)
        await stage.until(lambda: stage.copied() == 150)
        stage.exchange.leader(stage.ids["asha"]).place(*OPTION, "BUY", 225)
        await follow.stops()
        trades(stage, -150)

        _code, document = await picture(stage)
        row = row_of(document)
        assert (row["copied_quantity"], row["own_quantity"], row["drift_quantity"]) == (150, 225, 75)
        assert "+225 traded by hand today" in row["why"]
        await fixed(stage)
        assert (stage.copied(), net(stage)) == (75, 300)

    played(scene, tmp_path)


def test_what_was_closed_by_hand_is_said_and_neither_sold_nor_bought_again(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 150)
        await stage.until(lambda: stage.copied() == 75)
        await follow.stops()
        stage.exchange.leader(stage.ids["asha"]).place(*OPTION, "SELL", 75)

        row = row_of(await fixed(stage))
        assert (row["copied_quantity"], row["own_quantity"], row["state"]) == (75, -75, "own")
        assert "by hand: of +75 from copying the broker shows +0" in row["why"]
        trades(stage, -150)
        assert (await fixed(stage))["rows"] == []
        assert (len(stage.orders()), net(stage)) == (1, 0)

    played(scene, tmp_path)


def test_what_an_exit_and_the_person_have_both_sold_is_alerted_and_shown_until_it_is_bought_back(
    tmp_path: Path,
) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 150)
        await stage.until(lambda: stage.copied() == 75)
        await stage.settles()
        stage.exchange.accounts[stage.ids["asha"]].fill_policy = "manual"
        trades(stage, -150)
        await stage.until(lambda: len(stage.orders()) == 2 and stage.orders()[1].status == "PENDING")
        person = stage.exchange.leader(stage.ids["asha"])
        for order_id in (person.place(*OPTION, "SELL", 75), stage.orders()[1].order_id):
            stage.exchange.fill(order_id)
        await stage.until(lambda: any("have closed the same copied position" in line for line in follow.err))

        for _ in ("beside follow", "without it"):
            code, document = await picture(stage)
            row = row_of(document)
            assert (code, document["in_sync"], row["state"], document["plan"]) == (3, False, "closed_twice", [])
            assert "-75 because an exit of ours and an order of the account's own" in row["why"]
            await follow.stops()

        stage.exchange.fill(person.place(*OPTION, "BUY", 75))
        assert (await picture(stage))[0] == 0

    played(scene, tmp_path)


def test_after_a_lost_journal_orders_are_unexplained_until_they_are_adopted(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        trades(stage, 150)
        await stage.until(lambda: stage.copied() == 75)
        stage.leader.place(*OTHER, "BUY", 150, "LIMIT", D(50))
        await stage.until(lambda: len(stage.orders()) == 2)
        await follow.killed()
        for path in stage.folder.glob("copytrader.db*"):
            path.unlink()

        code, document = await picture(stage)
        assert code == 3
        assert row_of(document)["state"] == "unexplained"
        assert [finding["kind"] for finding in document["orders"]].count("stray") == 2
        code, program = await ended(stage, "reconcile", "--fix", "--yes")
        assert (code, program.out) == (6, [])
        assert "this journal does not know" in program.err[-2]

        code, document = await picture(stage, "--adopt", "--yes")
        assert (code, row_of(document)["copied_quantity"], row_of(document)["state"]) == (3, 75, "in_sync")
        assert [finding["kind"] for finding in document["orders"]] == ["not_copied"]
        assert [order.status for order in stage.orders()] == ["TRADED", "CANCELLED"]
        assert net(stage) == 75

    played(scene, tmp_path)


def test_what_follow_places_while_the_books_are_read_is_no_order_of_another_copier(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        def asked() -> int:
            return len(stage.exchange.ledger.where(kind="request", client_id=stage.ids["asha"], path="/positions"))

        await stage.follows()
        stage.exchange.faults.add(Fault(FaultKind.HANG, stage.ids["asha"], "GET", "/positions", count=None, seconds=1))
        before = asked()
        program = await stage.runs("reconcile", "--json")
        await stage.until(lambda: asked() > before)
        stage.leader.place(*OPTION, "BUY", 150, "LIMIT", D(50))
        await stage.until(lambda: len(stage.orders()) == 1)

        assert await program.ends(60) == 0, program.out
        assert json.loads("\n".join(program.out))["orders"] == []

    played(scene, tmp_path)


def test_a_book_that_cannot_be_read_is_unknown_and_never_flat(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        trades(stage, 150, OTHER)
        stage.exchange.script(
            Fault(FaultKind.ERROR, client_id=stage.ids["ravi"], method="GET", path="/positions", count=None)
        )
        code, document = await picture(stage)
        assert (code, document["in_sync"]) == (3, False)
        row = row_of(document, "ravi")
        assert (row["state"], row["copied_quantity"], row["drift_quantity"]) == ("unknown", None, None)
        _, program = await ended(stage, "reconcile")
        assert sum("could not be read" in text for text in program.out) == 1, program.out
        assert {step["follower"] for step in document["plan"]} == {"asha"}

        stage.exchange.expire_token(stage.ids["asha"])
        code, document = await picture(stage)
        assert (code, {row["state"] for row in document["rows"]}) == (4, {"unknown"})

    played(scene, tmp_path, ("0.5", "1"))


def test_a_running_follow_is_handed_the_plan_and_the_result_is_waited_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 300)
        await asyncio.sleep(2)
        follow = await stage.follows()
        await stage.settles(1)
        assert stage.orders() == []

        code, program = await ended(stage, "reconcile", "--fix", "--yes")
        assert code == 0, (program.out, program.err)
        assert "follow is running: it carries the plan out" in program.err
        assert stage.copied() == 150
        await stage.settles(2)
        assert len(stage.orders()) == 1
        trades(stage, -300)
        await stage.until(lambda: stage.copied() == 0)
        assert follow.process.returncode is None

    played(scene, tmp_path, copy="max_age_seconds = 1")


def test_reduce_only_symbol_follower_and_dry_run_narrow_what_is_sent(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        trades(stage, 150, OTHER)
        code, document = await picture(stage, "--fix", "--dry-run")
        assert (code, len(document["plan"])) == (3, 4)
        code, document = await picture(stage, "--fix", "--yes", "--reduce-only")
        assert (code, document["plan"]) == (3, [])
        assert stage.orders() == []

        await fixed(stage, "--follower", "ravi", "--symbol", "40002", "--limit")
        assert stage.orders("asha") == []
        (order,) = stage.orders("ravi")
        assert (order.instrument.security, order.filled) == (OTHER, 150)
        assert order.terms.order_type == "LIMIT"

    played(scene, tmp_path, ("0.5", "1"))


def test_limits_hold_back_a_plan_s_entries_and_the_drift_remains(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 450)
        code, document = await picture(stage, "--fix", "--yes")
        assert code == 3
        assert document["plan"][0]["held_back"] == "LIMIT_ORDER_LOTS: 3 lots, the limit is 2"
        assert stage.orders() == []

    played(scene, tmp_path, limits="max_order_lots = 2")


def test_without_a_yes_nothing_is_sent(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        code, program = await ended(stage, "reconcile", "--fix")
        assert code == 2
        assert "asha: entry: BUY 75 (1 lot)" in "\n".join(program.err)
        assert stage.orders() == []

    played(scene, tmp_path)


def test_watch_shows_the_picture_again_and_again_and_ctrl_c_ends_it_with_the_last_code(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        program = await stage.runs("reconcile", "--watch", "1")
        await stage.until(lambda: program.out.count("not in sync: 1 drift") >= 2, seconds=60)
        program.process.send_signal(signal.SIGINT)
        assert await program.ends() == 3

    played(scene, tmp_path)


def test_ctrl_c_while_watch_reads_ends_it_with_the_last_code_too(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        program = await stage.runs("reconcile", "--watch", "1")
        await stage.until(lambda: "not in sync: 1 drift" in program.out, seconds=60)
        before = len(stage.exchange.ledger)
        stage.exchange.script(Fault(FaultKind.HANG, method="GET", path="/orders", count=None))
        await stage.until(lambda: len(stage.exchange.ledger) > before, seconds=10)
        await asyncio.sleep(0.5)
        program.process.send_signal(signal.SIGINT)
        assert await program.ends() == 3

    played(scene, tmp_path)


def test_ctrl_c_while_a_plan_is_carried_out_still_tells_what_became_of_it(tmp_path: Path) -> None:
    """The placing hangs: nobody knows yet whether the order is there."""

    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        stage.exchange.script(Fault(FaultKind.LATE, seconds=90, method="POST", path="/orders", count=None))
        program = await stage.runs("reconcile", "--fix", "--yes")
        await stage.until(lambda: any(row.method == "POST" for row in stage.exchange.ledger), seconds=60)
        program.process.send_signal(signal.SIGINT)
        assert await program.ends() == 5
        assert any("interrupted: what was sent is not waited for any more" in line for line in program.err)
        assert any("0 of 75 filled, outcome unknown" in line for line in program.out)

    played(scene, tmp_path)


def test_csv_has_the_same_rows(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        trades(stage, 150)
        code, program = await ended(stage, "reconcile", "--csv")
        assert code == 3
        (row,) = csv.DictReader(program.out)
        assert (row["follower"], row["target_quantity"], row["drift_quantity"], row["state"]) == (
            "asha",
            "75",
            "-75",
            "drift",
        )

    played(scene, tmp_path)
