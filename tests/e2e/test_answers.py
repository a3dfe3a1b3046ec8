"""What the broker may answer, verb by verb, over real sockets: unknown is not no, and no is not asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest

from copytrader.core.facts import Alert, Level
from copytrader.simulator import Fault, FaultKind
from copytrader.simulator.model import BookOrder
from tests.e2e.judge import assert_sound, copies_of, hurried, reasons_of, recorded, until_sound
from tests.e2e.stage import NAMES, PATIENCE, Stage

D = Decimal
K = FaultKind
MARGIN = "RMS:1:You have insufficient funds. Please add Rs.23.70 to trade."


class Truth(Enum):
    """What really becomes of the request."""

    DONE = "it is carried out, and the answer does not prove it"
    LOST = "it is not carried out, and the answer does not prove that either"
    REFUSED = "it is not carried out, and the answer says so"
    THROTTLED = "it is not looked at"


@dataclass(frozen=True)
class Behaviour:
    name: str
    truth: Truth
    faults: tuple[Fault, ...]


def done(name: str, kind: FaultKind, **how: object) -> Behaviour:
    return Behaviour(name, Truth.DONE, (Fault(kind, **how),))  # type: ignore[arg-type]


def lost(name: str, kind: FaultKind, **how: object) -> Behaviour:
    return Behaviour(name, Truth.LOST, (Fault(kind, accept=False, **how),))  # type: ignore[arg-type]


def refused(name: str, kind: FaultKind, **how: object) -> Behaviour:
    return Behaviour(name, Truth.REFUSED, (Fault(kind, accept=False, **how),))  # type: ignore[arg-type]


BEHAVIOURS = (
    done("no answer", K.HANG),
    done("a slow answer", K.HANG, seconds=0.7),
    done("a reset", K.RESET),
    done("a closed connection", K.CLOSE),
    done("half an answer", K.TRUNCATED),
    done("done late, no answer", K.LATE, seconds=0.8),
    done("done late, a gateway page", K.LATE, seconds=0.8, status=504),
    done("502 page", K.GATEWAY, status=502),
    done("503 page", K.GATEWAY, status=503),
    done("504 page", K.GATEWAY, status=504),
    done("200 page", K.HTML),
    done("400 page", K.HTML, status=400),
    done("200 broken JSON", K.MALFORMED),
    done("200 empty", K.EMPTY),
    done("400 empty", K.EMPTY, status=400),
    done("500 empty", K.EMPTY, status=500),
    done("200 without an order id", K.NO_ORDER_ID),
    done("202 without an order id", K.NO_ORDER_ID, status=202),
    done("200 with an error inside", K.ERROR_BODY, code="DH-906"),
    done("200 failed", K.FAILED_BODY, message="Request failed"),
    done("DH-908", K.ERROR, code="DH-908", status=500),
    done("DH-908 as 400", K.ERROR, code="DH-908", status=400),
    done("DH-909", K.ERROR, code="DH-909", status=500),
    done("DH-910", K.ERROR, code="DH-910", status=400),
    done("null", K.BODY, body="null"),
    done("a number", K.BODY, body="7"),
    done("an empty list", K.BODY, body="[]"),
    done("an empty list as 400", K.BODY, body="[]", status=400),
    done("order id null", K.BODY, body='{"orderId": null, "orderStatus": "TRANSIT"}'),
    done("order id empty", K.BODY, body='{"orderId": "", "orderStatus": "TRANSIT"}'),
    done("order id zero", K.BODY, body='{"orderId": 0}'),
    done("order id no id", K.BODY, body='{"orderId": "../positions"}'),
    done("another error object", K.BODY, body='{"error": "Internal"}', status=500),
    done("NaN", K.BODY, body='{"orderId": NaN}'),
    done("the answer in a list", K.WRAP_LIST),
    Behaviour("closed, and hidden for a while", Truth.DONE, (Fault(K.CLOSE), Fault(K.HIDE, seconds=1.2, where="both"))),
    lost("never arrived: 502 page", K.GATEWAY, status=502),
    lost("never arrived: closed", K.CLOSE),
    lost("never arrived: DH-909", K.ERROR, code="DH-909", status=500),
    lost("never arrived: 200 empty", K.EMPTY),
    lost("a redirect", K.REDIRECT),
    refused("DH-905", K.ERROR, code="DH-905", message="Invalid quantity"),
    refused("DH-906", K.ERROR, code="DH-906", message="Order cannot be taken"),
    refused("DH-903", K.ERROR, code="DH-903"),
    refused("DH-907", K.ERROR, code="DH-907", status=400),
    refused("no money", K.ERROR, code="DH-906", message=MARGIN),
    Behaviour("200 REJECTED", Truth.REFUSED, (Fault(K.REJECTED, message=MARGIN),)),
    Behaviour("rejected later", Truth.REFUSED, (Fault(K.REJECT_LATER, message=MARGIN),)),
    Behaviour("429", Truth.THROTTLED, (Fault(K.THROTTLE),)),
    Behaviour("429 for others", Truth.THROTTLED, (Fault(K.THROTTLE, count=2),)),
)
ROUNDS = -(-len(BEHAVIOURS) // len(NAMES))


@dataclass
class Case:
    """One behaviour, struck at one follower's copy of one leader order."""

    behaviour: Behaviour
    name: str
    leader_order_id: str

    def __str__(self) -> str:
        return f"{self.behaviour.name} ({self.name}, {self.leader_order_id})"


Ask = Callable[[Stage, Case], str]


def stage_of_five(folder: Path) -> Stage:
    return Stage(folder, ("1",) * len(NAMES), copy="max_age_seconds = 60", **hurried(give_up_after=6))


def script(stage: Stage, case: Case, method: str, path: str) -> None:
    for fault in case.behaviour.faults:
        fields = {name: getattr(fault, name) for name in fault.__dataclass_fields__}
        stage.exchange.script(Fault(**{**fields, "client_id": stage.ids[case.name], "method": method, "path": path}))


def cases_of(number: int, leader_order_id: str) -> list[Case]:
    these = BEHAVIOURS[number * len(NAMES) :][: len(NAMES)]
    return [Case(behaviour, name, leader_order_id) for behaviour, name in zip(these, NAMES, strict=False)]


def place(stage: Stage, number: int) -> str:
    return stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(95 - number))


def sent(stage: Stage, name: str, method: str, path: str) -> int:
    return stage.requests(name).count((method, path))


async def placed_cleanly(stage: Stage) -> list[Case]:
    """Let every behaviour have a working copy of its own."""
    cases = []
    for number in range(ROUNDS):
        order_id = place(stage, number)
        cases += cases_of(number, order_id)
    for name in NAMES:
        await stage.until(lambda name=name: len(stage.orders(name)) == ROUNDS, PATIENCE, "copies")  # type: ignore[misc]
    await until_sound(stage)
    return cases


def copy_of(stage: Stage, case: Case) -> BookOrder:
    [copy] = copies_of(stage, recorded(stage), case.leader_order_id, case.name)
    return copy


async def judge(cases: list[Case], check: Callable[[Case], None]) -> None:
    failed = []
    for case in cases:
        try:
            check(case)
        except (AssertionError, ValueError) as error:
            failed.append(f"{case}: {error}")
    assert not failed, "\n".join(failed)


async def all_given_up(stage: Stage) -> None:
    """The leader cancels everything: nothing may stay open anywhere, so nothing was lost from sight."""
    for order in stage.exchange.book(stage.ids["leader"]):
        if order.is_open:
            stage.leader.cancel(order.order_id)
    await stage.until(
        lambda: not any(order.is_open for name in NAMES for order in stage.orders(name)), PATIENCE, "all is cancelled"
    )
    assert_sound(stage)


def test_a_placing_is_never_repeated_and_never_taken_for_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with stage_of_five(tmp_path) as stage:
            await stage.follows()
            cases: list[Case] = []
            for number in range(ROUNDS):
                these = cases_of(number, "")
                for case in these:
                    script(stage, case, "POST", "/orders")
                order_id = place(stage, number)
                for case in these:
                    case.leader_order_id = order_id
                cases += these
                for name in NAMES:
                    await stage.until(
                        lambda name=name, number=number: sent(stage, name, "POST", "/orders") > number,  # type: ignore[misc]
                        PATIENCE,
                        f"placing {number} of {name}",
                    )
            await until_sound(stage)
            facts = recorded(stage)

            def check(case: Case) -> None:
                copies = copies_of(stage, facts, case.leader_order_id, case.name)
                reasons = reasons_of(facts, case.leader_order_id, case.name)
                working = [copy for copy in copies if copy.is_open]
                match case.behaviour.truth:
                    case Truth.DONE | Truth.THROTTLED:
                        assert (len(working), len(copies), reasons) == (1, 1, [])
                    case Truth.LOST:
                        assert (copies, reasons) == ([], ["ABSENT"])
                    case Truth.REFUSED:
                        assert working == []
                        money = any(fault.message == MARGIN for fault in case.behaviour.faults)
                        # An answer may say REJECTED and no more; the book's words come after it.
                        last = "INSUFFICIENT_MARGIN" if money else "REFUSED"
                        assert reasons in ([last], ["REFUSED", last])

            await judge(cases, check)
            for name in NAMES:
                mine = [case for case in cases if case.name == name]
                again = sum(case.behaviour.truth is Truth.THROTTLED for case in mine) * 2
                assert sent(stage, name, "POST", "/orders") <= len(mine) + again + (ROUNDS - len(mine))
            await all_given_up(stage)

    asyncio.run(scene())


def is_final(case: Case) -> bool:
    """Whether a modification is refused for good: where the words do not tell why, it is asked for again."""
    is_clear = case.behaviour.name not in ("DH-905", "DH-906", "DH-907")
    return case.behaviour.truth is Truth.REFUSED and is_clear and not is_either(case)


def is_either(case: Case) -> bool:
    """A 200 that says REJECTED may speak of the order and proves nothing: asked for again, unless the frame comes first."""
    return case.behaviour.name == "200 REJECTED"


def is_told_refused(stage: Stage, order_id: str) -> bool:
    alerts = [fact.text for fact in recorded(stage) if isinstance(fact, Alert)]
    return any(f"the modification of {order_id} was refused" in text for text in alerts)


def test_a_modification_is_asked_for_until_the_terms_are_right_but_never_after_a_clear_refusal(tmp_path: Path) -> None:
    async def scene() -> None:
        async with stage_of_five(tmp_path) as stage:
            await stage.follows()
            cases = await placed_cleanly(stage)
            paths = {str(case): f"/orders/{copy_of(stage, case).order_id}" for case in cases}
            for case in cases:
                script(stage, case, "PUT", paths[str(case)])
            for order in stage.exchange.book(stage.ids["leader"]):
                stage.leader.modify(order.order_id, price=order.terms.price - 20)

            def is_right(case: Case) -> bool:
                return copy_of(stage, case).terms.price == stage.exchange.orders[case.leader_order_id].terms.price

            def is_done(case: Case) -> bool:
                return is_right(case) or (is_either(case) and is_told_refused(stage, copy_of(stage, case).order_id))

            todo = [case for case in cases if not is_final(case)]
            await stage.until(lambda: all(is_done(case) for case in todo), PATIENCE, "the new terms")
            await stage.settles(1)

            def check(case: Case) -> None:
                asked = sent(stage, case.name, "PUT", paths[str(case)])
                if is_final(case):
                    assert not is_right(case)
                    assert asked == 1, f"asked {asked} times"
                else:
                    assert asked <= 4, f"asked {asked} times"
                    assert is_right(case) or (is_done(case) and asked == 1), f"asked {asked} times"

            await judge(cases, check)
            facts = recorded(stage)
            for case in cases:
                assert reasons_of(facts, case.leader_order_id, case.name) == [], str(case)
            await all_given_up(stage)

    asyncio.run(scene())


def test_a_cancel_is_repeated_until_the_broker_reports_the_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with stage_of_five(tmp_path) as stage:
            await stage.follows()
            cases = await placed_cleanly(stage)
            paths = {str(case): f"/orders/{copy_of(stage, case).order_id}" for case in cases}
            for case in cases:
                script(stage, case, "DELETE", paths[str(case)])
            await all_given_up(stage)
            await stage.settles(1)

            def check(case: Case) -> None:
                asked = sent(stage, case.name, "DELETE", paths[str(case)])
                assert 1 <= asked <= 5, f"asked {asked} times"
                assert copy_of(stage, case).status == "CANCELLED"

            await judge(cases, check)

    asyncio.run(scene())


LOOK_UPS = (
    ("502 page", (Fault(K.GATEWAY),)),
    ("empty", (Fault(K.EMPTY),)),
    ("broken JSON", (Fault(K.MALFORMED),)),
    ("no answer", (Fault(K.HANG),)),
    ("429", (Fault(K.THROTTLE),)),
    ("nothing there", (Fault(K.BODY, body="{}"),)),
    ("an empty list", (Fault(K.BODY, body="[]"),)),
    ("another client's order", (Fault(K.WRONG_CLIENT),)),
    ("DH-908", (Fault(K.ERROR, code="DH-908", status=500),)),
    ("a page as 200", (Fault(K.HTML),)),
)


@pytest.mark.parametrize("half", [LOOK_UPS[:5], LOOK_UPS[5:]], ids=["failing", "odd"])
def test_a_look_up_that_fails_or_answers_oddly_is_no_proof(
    tmp_path: Path, half: tuple[tuple[str, tuple[Fault, ...]], ...]
) -> None:
    """The look-up by name answers so for a while, the book fails altogether, and the stream is silent."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1",) * 5, **hurried(give_up_after=1, answer_within=1)) as stage:
            await stage.follows()
            for (_, faults), name in zip(half, NAMES, strict=True):
                client_id = stage.ids[name]
                stage.exchange.streams.faults(client_id).drop = -1
                stage.exchange.script(Fault(K.CLOSE, client_id=client_id, method="POST", path="/orders"))
                stage.exchange.script(
                    Fault(K.GATEWAY, client_id=client_id, method="GET", path="/orders", count=None, status=503)
                )
                fields = {field: getattr(faults[0], field) for field in faults[0].__dataclass_fields__}
                where = {"client_id": client_id, "method": "GET", "path": "/orders/external/*", "count": None}
                stage.exchange.script(Fault(**{**fields, **where}))
            order_id = place(stage, 0)
            for name in NAMES:
                await stage.until(lambda name=name: stage.orders(name), PATIENCE, "the copy")  # type: ignore[misc]
            await asyncio.sleep(4)  # longer than it takes to give up
            assert [reasons_of(recorded(stage), order_id, name) for name in NAMES] == [[]] * 5
            stage.exchange.faults.clear()
            stage.leader.cancel(order_id)
            await all_given_up(stage)
            for name in NAMES:
                assert sent(stage, name, "POST", "/orders") == 1

    asyncio.run(scene())


def test_an_order_that_turns_up_after_it_was_given_up_is_cancelled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), **hurried(give_up_after=1, answer_within=1)) as stage:
            program = await stage.follows()
            stage.exchange.script(Fault(K.LATE, method="POST", path="/orders", seconds=12))
            order_id = place(stage, 0)
            await stage.until(lambda: reasons_of(recorded(stage), order_id) == ["ABSENT"], 11, "given up")
            await stage.until(stage.orders, PATIENCE, "it turns up")
            await stage.until(lambda: stage.orders()[0].status == "CANCELLED", PATIENCE, "it is cancelled")
            await program.says("has turned up")
            assert sent(stage, "asha", "POST", "/orders") == 1

    asyncio.run(scene())


def test_a_refused_token_or_address_stops_that_follower_alone_and_says_how_to_mend_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1", "1")) as stage:
            program = await stage.follows()
            stage.exchange.script(
                Fault(K.ERROR, stage.ids["asha"], "POST", "/orders", accept=False, code="DH-901", count=None)
            )
            stage.exchange.accounts[stage.ids["ravi"]].allowed_peers = ("192.0.2.1",)
            orders = [place(stage, number) for number in range(2)]
            await stage.until(lambda: len(stage.orders("mira")) == 2, PATIENCE, "the third follower goes on")
            await stage.settles()
            orders.append(place(stage, 3))
            await stage.until(lambda: len(stage.orders("mira")) == 3, PATIENCE, "the third follower goes on")
            await stage.settles()
            facts = assert_sound(stage)
            for name in ("asha", "ravi"):
                assert [set(reasons_of(facts, order_id, name)) for order_id in orders] == [{"TOKEN"}] * 3
                assert 1 <= sent(stage, name, "POST", "/orders") <= 3, "no order is asked for twice"
            await program.says("asha.*copytrader login asha")
            await program.says(r"ravi.*static IP.*followers\.ravi\.source_address")
            alerts = [fact for fact in facts if isinstance(fact, Alert) and fact.level is Level.CRITICAL]
            assert {fact.account for fact in alerts} == {"asha", "ravi"}

    asyncio.run(scene())
