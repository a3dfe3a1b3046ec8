"""What can go wrong between a request and its answer, as values that a test scripts.

A fault is chosen by account, verb and path, and by the how-manieth matching request it
strikes.  Faults of treatment change what becomes of an order; faults of the answer
change what the client gets to see of it.  Nothing here is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from copytrader.simulator import wire


class FaultKind(StrEnum):
    # No answer as it should be.
    HANG = "hang"
    """Carried out; the answer comes after `seconds`, or never when that is None."""
    RESET = "reset"
    """Carried out; the connection is reset."""
    CLOSE = "close"
    """Carried out; the connection is closed without an answer."""
    LATE = "late"
    """Carried out only `seconds` later; no answer, or a gateway page when `status` is set."""
    TRUNCATED = "truncated"
    """Half of the answer's body, then the connection is closed."""
    # Another answer.
    GATEWAY = "gateway"
    """An HTML page with `status` (502)."""
    MALFORMED = "malformed"
    EMPTY = "empty"
    HTML = "html"
    NO_ORDER_ID = "no_order_id"
    """`{}` with `status` (200)."""
    ERROR_BODY = "error_body"
    """A classic error object with `status` 200."""
    FAILED_BODY = "failed_body"
    """`{"status": "failed"}` with `status` 200."""
    ERROR = "error"
    """The error `code` with `status` and `message`, which default to what that code comes with."""
    THROTTLE = "throttle"
    """429 DH-904; never carried out."""
    REDIRECT = "redirect"
    """To `location` with `status` (307); never carried out."""
    BODY = "body"
    """Exactly `status` and `body`."""
    WRAP_LIST = "wrap_list"
    """The right answer inside a list."""
    WRONG_CLIENT = "wrong_client"
    """The right answer, but said to be another client's."""
    # What becomes of an order.
    REJECTED = "rejected"
    """The answer is a 200 whose orderStatus is REJECTED, with `message` in the book."""
    REJECT_LATER = "reject_later"
    """Accepted in TRANSIT, then rejected with `message`; a modification is refused on the stream."""
    HIDE = "hide"
    """The order is hidden for `seconds` from the look-up, the book or both (`where`)."""


TREATMENTS = frozenset({FaultKind.REJECTED, FaultKind.REJECT_LATER, FaultKind.HIDE})
NEVER_CARRIED_OUT = frozenset({FaultKind.THROTTLE, FaultKind.REDIRECT})


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` is a pattern for the path below /v2, `*` matching anything.

    The fault strikes from the `nth` matching request on, `count` times (None: always).
    `accept` False means that the request is not carried out.
    """

    kind: FaultKind
    client_id: str = ""
    method: str = ""
    path: str = "*"
    nth: int = 1
    count: int | None = 1
    accept: bool = True
    seconds: float | None = None
    status: int = 0
    code: str = "DH-908"
    message: str = ""
    body: str = ""
    location: str = "http://127.0.0.2:9/v2/orders"
    where: str = "both"

    def matches(self, client_id: str, method: str, path: str) -> bool:
        return (
            self.client_id in ("", client_id) and self.method.upper() in ("", method) and fnmatchcase(path, self.path)
        )

    @property
    def carries_out(self) -> bool:
        return self.accept and self.kind not in NEVER_CARRIED_OUT


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.  `fault` tells the transport (or a socketless test) how it fails to arrive."""

    status: int
    headers: dict[str, str]
    body: bytes
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Treatment:
    """What scripted faults do to the order of one request."""

    reject: str = ""
    reject_later: str = ""
    hide_lookup: float = 0.0
    hide_book: float = 0.0


class Faults:
    """The script of one exchange: which faults wait for which requests."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, list[int]]] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append((fault, [0]))

    def clear(self, client_id: str = "") -> None:
        self._waiting = [entry for entry in self._waiting if client_id and entry[0].client_id != client_id]

    def striking(self, client_id: str, method: str, path: str) -> list[Fault]:
        """Count this request for every fault it matches, and return those that strike it."""
        struck = []
        for fault, seen in self._waiting:
            if not fault.matches(client_id, method, path):
                continue
            seen[0] += 1
            if seen[0] >= fault.nth and (fault.count is None or seen[0] < fault.nth + fault.count):
                struck.append(fault)
        return struck


def json_response(status: int, value: object, fault: Fault | None = None) -> Response:
    return Response(status, {"Content-Type": "application/json"}, wire.encode(value), fault)


def error_response(code: str, message: str = "", status: int = 0, fault: Fault | None = None) -> Response:
    return json_response(status or wire.ERROR_STATUS.get(code, 400), wire.error_body(code, message), fault)


def disguised(truth: Response, fault: Fault) -> Response:
    """What the client sees of the true answer under this fault."""
    kind, status = fault.kind, fault.status
    match kind:
        case FaultKind.GATEWAY:
            return _page(status or 502, fault)
        case FaultKind.LATE if status:
            return _page(status, fault)
        case FaultKind.HTML:
            return Response(status or 200, {"Content-Type": "text/html"}, wire.gateway_page(502), fault)
        case FaultKind.MALFORMED:
            return Response(status or 200, {"Content-Type": "application/json"}, b'{"orderId":"12', fault)
        case FaultKind.EMPTY:
            return Response(status or 200, {"Content-Type": "application/json"}, b"", fault)
        case FaultKind.NO_ORDER_ID:
            return json_response(status or 200, {}, fault)
        case FaultKind.ERROR_BODY:
            return json_response(status or 200, wire.error_body(fault.code, fault.message), fault)
        case FaultKind.FAILED_BODY:
            return json_response(status or 200, {"status": "failed", "data": {"910": fault.message}}, fault)
        case FaultKind.ERROR:
            return error_response(fault.code, fault.message, status, fault)
        case FaultKind.THROTTLE:
            return error_response("DH-904", fault=fault)
        case FaultKind.REDIRECT:
            return Response(status or 307, {"Location": fault.location}, b"", fault)
        case FaultKind.BODY:
            return Response(status or 200, {"Content-Type": "application/json"}, fault.body.encode(), fault)
        case FaultKind.WRAP_LIST:
            return Response(truth.status, truth.headers, b"[" + truth.body + b"]", fault)
        case FaultKind.WRONG_CLIENT:
            return Response(truth.status, truth.headers, _of_another_client(truth.body), fault)
        case _:
            return Response(truth.status, truth.headers, truth.body, fault)


def _page(status: int, fault: Fault) -> Response:
    return Response(status, {"Content-Type": "text/html"}, wire.gateway_page(status), fault)


def _of_another_client(body: bytes) -> bytes:
    marker = b'"dhanClientId":"'
    head, found, tail = body.partition(marker)
    return head + found + b"9" + tail[1:] if found else body
