"""One thing that was looked at: how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.  `is_access` where a token or a permission of Dhan's is what it is about."""

    check: str
    status: Status
    detail: str
    remedy: str = ""
    is_access: bool = False


def ok(check: str, detail: str) -> Check:
    return Check(check, Status.OK, detail)


def warn(check: str, detail: str, remedy: str) -> Check:
    return Check(check, Status.WARN, detail, remedy)


def fail(check: str, detail: str, remedy: str, *, is_access: bool = False) -> Check:
    return Check(check, Status.FAIL, detail, remedy, is_access)
