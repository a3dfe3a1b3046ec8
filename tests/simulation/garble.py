"""Messages that are wrong in the ways that messages go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

_VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    10**40,
    float("nan"),
    float("inf"),
    "",
    "NA",
    "x" * 400,
    "٣",
    "\x1b]0;title\x07",
    "=HYPERLINK(1)",
    "../positions",
    "ct1-aaaaaaaaaaaaaaaaaaaaa",
    "\ud800",
    [],
    {},
    [1, 2],
    "Active",
    "PART TRADED",
    "0001-01-01 00:00:00",
    "2026-13-45 99:99:99",
    "9999-12-31 23:59:59",
)


def garbled(text: str, rng: Random) -> str:
    """One mutation of a JSON message, or of its text."""
    return rng.choice(_WAYS)(text, rng)


def broken(text: str, rng: Random) -> str:
    """A message that nobody can take for a good one, whatever is made of it."""
    return rng.choice(_BREAKS)(text, rng)


def _shortened(text: str, rng: Random) -> str:
    return text[: rng.randrange(len(text))]


def _odd_status(text: str, rng: Random) -> str:
    head, _, tail = text.partition('"status":"')
    return head + '"status":"Odd' + tail


def _cut(text: str, rng: Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _flip(text: str, rng: Random) -> str:
    if not text:
        return text
    place = rng.randrange(len(text))
    return (
        text[:place]
        + chr(rng.choice((0, 34, 44, 48, 92, 123, 125, 233, 0x2028, rng.randrange(1, 0xD000))))
        + text[place + 1 :]
    )


def _splice(text: str, rng: Random) -> str:
    start, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    return text[:start] + text[end:] if rng.random() < 0.5 else text[:end] + text[start:end] + text[end:]


def _change_field(text: str, rng: Random) -> str:
    """Give one field another value; the whole stays JSON (as Python writes it, NaN included)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _flip(text, rng)
    data = value.get("Data", value) if isinstance(value, dict) else value
    if isinstance(data, list) and data and isinstance(data[0], dict):
        data = data[0]
    if not isinstance(data, dict) or not data:
        return _flip(text, rng)
    key = rng.choice(sorted(data))
    way = rng.random()
    if way < 0.3:
        del data[key]
    elif way < 0.4:
        data[key.upper()] = rng.choice(_VALUES)
    else:
        data[key] = rng.choice(_VALUES)
    return json.dumps(value)


def _nest(text: str, rng: Random) -> str:
    depth = rng.choice((1, 63, 65, 2000))
    return rng.choice(("[", '{"Data":')) * depth + text


def _number(text: str, rng: Random) -> str:
    return text.replace("1", rng.choice(("1e999", "1E-999", "-", "1" * 400, "NaN", "١")), 1)


def _other(text: str, rng: Random) -> str:
    return rng.choice(("", "null", "[]", "{}", "7", '"x"', "{" * 100_000, text * 60, '{"Type":"heartbeat"}', "\x00"))


_BREAKS: tuple[Callable[[str, Random], str], ...] = (_shortened, _odd_status, _nest, _other)

_WAYS: tuple[Callable[[str, Random], str], ...] = (
    _cut,
    _flip,
    _flip,
    _splice,
    _change_field,
    _change_field,
    _change_field,
    _nest,
    _number,
    _other,
)
