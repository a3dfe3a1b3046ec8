"""Scripted faults: what the client sees, and what nevertheless happened."""

from __future__ import annotations

import json

import pytest

from copytrader.simulator import Break, Fault, FaultKind
from tests.simulator.conftest import Desk

FOLLOWER_ID = "1000000002"


def accepted(desk: Desk) -> list[str]:
    return [row.order_id for row in desk.exchange.ledger.where(kind="accepted")]


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault(FaultKind.GATEWAY), 502, b"<html>"),
        (Fault(FaultKind.GATEWAY, status=504), 504, b"<html>"),
        (Fault(FaultKind.MALFORMED), 200, b'{"orderId":"12'),
        (Fault(FaultKind.EMPTY), 200, b""),
        (Fault(FaultKind.EMPTY, status=400), 400, b""),
        (Fault(FaultKind.HTML), 200, b"<html>"),
        (Fault(FaultKind.NO_ORDER_ID, status=202), 202, b"{}"),
        (Fault(FaultKind.ERROR_BODY), 200, b'{"errorType":"Internal_Server_Error","errorCode":"DH-908"'),
        (Fault(FaultKind.FAILED_BODY), 200, b'{"status":"failed"'),
        (Fault(FaultKind.ERROR, code="DH-909"), 500, b'{"errorType":"Network_Error","errorCode":"DH-909"'),
        (Fault(FaultKind.ERROR, code="DH-910", status=400), 400, b'{"errorType":"Others","errorCode":"DH-910"'),
        (Fault(FaultKind.BODY, status=200, body="[]"), 200, b"[]"),
        (Fault(FaultKind.HANG), 200, b'{"orderId"'),
        (Fault(FaultKind.RESET), 200, b'{"orderId"'),
        (Fault(FaultKind.CLOSE), 200, b'{"orderId"'),
        (Fault(FaultKind.TRUNCATED), 200, b'{"orderId"'),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else None,
)
def test_an_ambiguous_answer_hides_an_accepted_order(desk: Desk, fault: Fault, status: int, body: bytes) -> None:
    desk.exchange.script(fault)
    answer = desk.place()
    assert (answer.status, answer.body[: len(body)], answer.fault) == (status, body, fault)
    assert len(accepted(desk)) == 1


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(FaultKind.GATEWAY, accept=False), 502),
        (Fault(FaultKind.ERROR, code="DH-906", accept=False), 400),
        (Fault(FaultKind.RESET, accept=False), 200),
        (Fault(FaultKind.THROTTLE), 429),
        (Fault(FaultKind.REDIRECT), 307),
        (Fault(FaultKind.REDIRECT, status=302), 302),
    ],
)
def test_the_same_faults_can_strike_before_acceptance(desk: Desk, fault: Fault, status: int) -> None:
    desk.exchange.script(fault)
    answer = desk.place()
    assert answer.status == status
    assert accepted(desk) == []
    if fault.kind is FaultKind.REDIRECT:
        assert answer.headers["Location"].startswith("http://127.0.0.2")


def test_a_late_request_lands_after_its_time(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.LATE, seconds=30))
    answer = desk.place()
    assert answer.fault is not None
    desk.passes(29)
    assert accepted(desk) == []
    desk.passes(1)
    desk.passes(1)
    (order_id,) = accepted(desk)
    assert desk.row(order_id)["orderStatus"] == "PENDING"


def test_a_late_request_may_have_been_answered_by_the_gateway(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.LATE, seconds=30, status=504))
    assert desk.place().status == 504


def test_an_order_can_be_rejected_in_the_answer(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.REJECTED, method="POST", path="/orders", message="no money"))
    answer = json.loads(desk.place().body)
    assert answer["orderStatus"] == "REJECTED"
    row = desk.row(answer["orderId"])
    assert (row["orderStatus"], row["omsErrorDescription"]) == ("REJECTED", f"RMS:{answer['orderId']}:no money")


def test_an_order_can_be_rejected_after_its_answer(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.REJECT_LATER, method="POST", path="/orders"))
    answer = json.loads(desk.place().body)
    assert answer["orderStatus"] == "TRANSIT"
    desk.passes()
    assert desk.statuses() == ["Rejected"]


def test_a_modification_can_be_refused_after_its_answer(desk: Desk) -> None:
    order_id = desk.placed()
    desk.exchange.script(Fault(FaultKind.REJECT_LATER, method="PUT", message="no money"))
    assert desk.modify(order_id, price=91.0).status == 200
    desk.passes()
    assert desk.statuses() == ["Pending", "Mod-Rejected"]
    assert desk.row(order_id)["price"] == 95.0


@pytest.mark.parametrize(("where", "in_lookup", "in_book"), [("lookup", 404, 1), ("book", 200, 0), ("both", 404, 0)])
def test_an_order_can_be_hidden_from_look_up_and_book_for_a_while(
    desk: Desk, where: str, in_lookup: int, in_book: int
) -> None:
    desk.exchange.script(Fault(FaultKind.HIDE, method="POST", seconds=10, where=where))
    desk.placed()
    assert desk.request("GET", "/orders/external/ct1-abc").status == in_lookup
    assert len(desk.get("/orders")) == in_book
    desk.passes(10)
    assert desk.request("GET", "/orders/external/ct1-abc").status == 200
    assert len(desk.get("/orders")) == 1


def test_look_ups_fail_and_lie_on_demand(desk: Desk) -> None:
    desk.placed()
    path = "/orders/external/*"
    for fault in (
        Fault(FaultKind.WRAP_LIST, path=path),
        Fault(FaultKind.WRONG_CLIENT, path=path, nth=2),
        Fault(FaultKind.BODY, path=path, nth=3, body="[]"),
        Fault(FaultKind.GATEWAY, path=path, nth=4, status=503),
    ):
        desk.exchange.script(fault)
    answers = [desk.request("GET", "/orders/external/ct1-abc") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 503, 200]
    bodies = [json.loads(answers[number].body) for number in (0, 1, 2, 4)]
    assert isinstance(bodies[0], list)
    assert bodies[1]["dhanClientId"] == "9000000002"
    assert bodies[2] == []
    assert bodies[3]["dhanClientId"] == FOLLOWER_ID


def test_a_fault_strikes_only_its_account_verb_and_path_and_only_so_often(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.GATEWAY, client_id=FOLLOWER_ID, method="POST", path="/orders", nth=2, count=2))
    desk.exchange.script(Fault(FaultKind.GATEWAY, client_id="1000000003"))
    assert desk.request("GET", "/orders").status == 200
    assert [desk.place().status for _ in range(4)] == [200, 502, 502, 200]
    struck = [row for row in desk.exchange.ledger.where(kind="answer") if row.fault == "gateway"]
    assert len(struck) == 2


def test_a_fault_without_count_strikes_until_it_is_cleared(desk: Desk) -> None:
    desk.exchange.script(Fault(FaultKind.THROTTLE, client_id=FOLLOWER_ID, count=None))
    assert [desk.place().status for _ in range(3)] == [429, 429, 429]
    desk.exchange.faults.clear(FOLLOWER_ID)
    assert desk.place().status == 200


def test_frames_can_be_lost_doubled_delayed_and_held(desk: Desk) -> None:
    faults = desk.exchange.streams.faults(FOLLOWER_ID)
    faults.drop = 1
    desk.placed()
    desk.placed()
    assert desk.statuses() == ["Pending"]

    desk.frames.clear()
    faults.duplicate = 1
    desk.placed()
    assert desk.statuses() == ["Pending", "Pending"]

    desk.frames.clear()
    faults.duplicate, faults.delay = 0, 5.0
    desk.placed()
    assert desk.frames == []
    desk.passes(5)
    assert desk.statuses() == ["Pending"]

    desk.frames.clear()
    faults.delay, faults.withhold = 0.0, True
    desk.placed(price=120.0)
    assert desk.frames == []
    desk.exchange.streams.release(FOLLOWER_ID)
    assert desk.statuses() == ["Pending", "Traded"]


def test_frames_can_come_in_the_wrong_order(desk: Desk) -> None:
    desk.exchange.streams.faults(FOLLOWER_ID).reorder = 2
    desk.placed(price=120.0)
    assert desk.statuses() == ["Traded", "Pending"]


def test_a_silent_stream_stays_silent(desk: Desk) -> None:
    desk.exchange.streams.faults(FOLLOWER_ID).drop = -1
    desk.placed(price=120.0)
    desk.placed(price=120.0)
    assert desk.frames == []


def test_listeners_are_told_of_breaks_and_raw_text(desk: Desk) -> None:
    breaks: list[Break] = []
    raw: list[str | bytes] = []
    stop = desk.exchange.subscribe(FOLLOWER_ID, lambda envelope: None, raw.append, breaks.append)
    desk.exchange.streams.break_off(FOLLOWER_ID, Break("close", 1011))
    desk.exchange.push_raw(FOLLOWER_ID, "not json")
    assert (breaks, raw) == ([Break("close", 1011)], ["not json"])
    stop()
    desk.exchange.push_raw(FOLLOWER_ID, b"\xff")
    assert raw == ["not json"]


def test_a_reset_world_is_empty(desk: Desk) -> None:
    desk.place()
    desk.exchange.reset()
    assert (len(desk.exchange.ledger), desk.exchange.accounts, desk.exchange.next_due) == (0, {}, None)
