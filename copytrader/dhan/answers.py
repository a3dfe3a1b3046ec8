"""Judges what Dhan's reply to a command proves.

The table of outcomes, and nothing else.  Its default is `Unanswered`: only evidence turns
a reply into `Accepted`, `Refused`, `Throttled` or `NotSent`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from copytrader.core.facts import (
    Accepted,
    Cancel,
    Command,
    Modify,
    NotSent,
    Place,
    Refused,
    Throttled,
    Unanswered,
    Verb,
)
from copytrader.core.model import OrderStatus, RefusalClass
from copytrader.dhan.fields import FrameError, parse_body, printable
from copytrader.dhan.refusals import THROTTLES, classify_refusal
from copytrader.dhan.transport import Reply

Outcome = Accepted | Refused | Throttled | Unanswered | NotSent

_DEFINITE = frozenset({"DH-901", "DH-902", "DH-903", "DH-905", "DH-906", "DH-907"})
_AMBIGUOUS = frozenset({"DH-908", "DH-909", "DH-910"})
_ORDER_ID = re.compile(r"(?!0+\Z)[0-9A-Za-z]{1,32}", re.ASCII)
_JWT = re.compile(r"eyJ[\w-]{5,}(\.[\w-]*){0,2}")
_STATUSES = {status.value: status for status in OrderStatus}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says: Dhan's code and its words, each "" where absent."""

    code: str = ""
    message: str = ""


def outcome(command: Command, reply: Reply, at: datetime) -> Outcome:
    """What the reply proves about the command."""
    name = (at, command.account, command.correlation_id, verb_of(command))
    if not reply.sent:
        return NotSent(*name, reply.detail)
    if reply.status is None:
        return Unanswered(*name, reply.detail)
    try:
        body = parse_body(reply.body)
    except FrameError as error:
        body, problem = None, f"body: {error}"
    else:
        problem = ""
    complaint = read_complaint(body)
    if reply.status == 429 or (400 <= reply.status < 500 and complaint.code in THROTTLES):
        return Throttled(*name, _words(reply.status, complaint, problem))
    if 200 <= reply.status < 300:
        accepted = _accepted(command, body, complaint, at)
        if accepted is not None:
            return accepted
    elif 400 <= reply.status < 500 and _is_definite(complaint):
        refusal = classify_refusal(reply.status, complaint.code, complaint.message)
        return Refused(*name, refusal, complaint.code, complaint.message)
    return Unanswered(*name, _words(reply.status, complaint, problem))


def verb_of(command: Command) -> Verb:
    if isinstance(command, Place):
        return Verb.PLACE
    return Verb.MODIFY if isinstance(command, Modify) else Verb.CANCEL


def read_complaint(body: object) -> Complaint:
    """The error in a body parsed by `fields.parse_body`, whichever of Dhan's shapes it has."""
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else None
        if not isinstance(body, dict) or body.get("status") != "ERROR":
            return Complaint()
    if not isinstance(body, dict):
        return Complaint()
    return _data_complaint(body) or Complaint(
        code=_clean(body.get("errorcode") or body.get("internalerrorcode"), 40),
        message=_clean(
            body.get("errormessage")
            or body.get("internalerrormessage")
            or body.get("omserrordescription")
            or body.get("message")
            or body.get("remarks")
            or body.get("error")
        ),
    )


def _accepted(command: Command, body: object, complaint: Complaint, at: datetime) -> Accepted | Refused | None:
    """What an answer in the 200s proves; None where it proves nothing."""
    row = _order_answer(body)
    order_id = _order_id(row)
    if not order_id or not _belongs(command, row, order_id):
        return None
    word = str(row.get("orderstatus", "")).upper().replace("-", "_")
    name = (at, command.account, command.correlation_id, verb_of(command))
    if word == OrderStatus.REJECTED:
        if not isinstance(command, Place):
            return None
        refusal = classify_refusal(None, complaint.code, complaint.message)
        return Refused(*name, refusal, complaint.code, complaint.message, order_id)
    if complaint.code or row.get("errormessage") or row.get("errortype"):
        return None
    return Accepted(*name, order_id, _STATUSES.get(word))


def _order_answer(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        return {}
    if "orderid" not in body and isinstance(body.get("data"), dict) and body.get("status") == "success":
        data: dict[str, Any] = body["data"]
        return data
    return {} if str(body.get("status", "")).lower() in ("failed", "failure", "error") else body


def _order_id(row: dict[str, Any]) -> str:
    value = row.get("orderid")
    if type(value) is int and 0 < value < 10**32:
        value = str(value)
    return value if isinstance(value, str) and _ORDER_ID.fullmatch(value) else ""


def _belongs(command: Command, row: dict[str, Any], order_id: str) -> bool:
    """Whether the answer is about our order: the id we named, and our correlation id if it has one."""
    if isinstance(command, (Modify, Cancel)):
        return order_id == command.order_id
    return row.get("correlationid") in (None, "", "NA", command.correlation_id)


def _is_definite(complaint: Complaint) -> bool:
    if complaint.code in _DEFINITE:
        return True
    # A call from an unregistered address has been seen under several codes.
    says_ip = classify_refusal(None, "", complaint.message) is RefusalClass.IP
    return says_ip and bool(complaint.code) and complaint.code not in _AMBIGUOUS


def _data_complaint(body: dict[str, Any]) -> Complaint | None:
    """`{"status": "failed", "data": {"813": "Invalid SecurityId"}}`."""
    data = body.get("data")
    if str(body.get("status", "")).lower() not in ("failed", "failure") or not isinstance(data, dict):
        return None
    for code, message in data.items():
        return Complaint(_clean(code, 40), _clean(message))
    return None


def _clean(value: object, limit: int = 300) -> str:
    """Bounded, printable, and without anything that looks like an access token."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return ""
    text = str(value) if isinstance(value, str) or abs(value) < 10**32 else ""
    return printable(_JWT.sub("[token]", text[: 4 * limit]), limit).strip()


def _words(status: int, complaint: Complaint, problem: str) -> str:
    parts = (f"status {status}", complaint.code, complaint.message, problem)
    return " · ".join(part for part in parts if part)
