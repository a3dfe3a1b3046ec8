"""How a fact becomes one JSON text, and the same fact again.

A price is written as a string, so that `Decimal("100.10")` keeps its last zero; a time keeps
its offset; an enum is its value.  Every field is written, defaults too: a default that
changes later must not change what an old fact says.

Reading forgives what a program of another age left: a key that is not known is passed over, a
missing one takes the field's default.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, cast, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from copytrader.core.facts import Event, Fact

KINDS: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Fact)}
EVENT_KINDS = frozenset(cls.__name__ for cls in get_args(Event))


class CodecError(ValueError):
    """The text is not a fact, or the value is not one that can be read back."""


def encode(fact: Fact) -> str:
    """Return a fact as JSON on one line."""
    adapter = _adapter(type(fact).__name__)
    try:
        # `adapter.dump_json` is the same by way of a dozen options, each handed on at its default.
        return adapter.serializer.to_json(fact, warnings="error").decode()
    except PydanticSerializationError as error:
        return _without_surrogates(adapter, fact, error)


def decode(kind: str, body: str) -> Fact:
    """Return the fact that `encode` wrote."""
    try:
        return cast(Fact, _adapter(kind).validate_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise CodecError(f"{kind}.{where}: {first['msg']}") from error


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    if kind not in KINDS:
        raise CodecError(f"no such kind of fact: {kind}")
    return TypeAdapter(KINDS[kind])


def _without_surrogates(adapter: TypeAdapter[Any], fact: Fact, error: PydanticSerializationError) -> str:
    """Return the JSON of a fact that holds half a character.

    A broker's text may hold one surrogate alone, which UTF-8 cannot: it is written as a
    question mark rather than not at all.  Anything else that cannot be written is a mistake.
    """
    text = json.dumps(
        adapter.dump_python(fact, warnings="none"), default=str, ensure_ascii=False, separators=(",", ":")
    )
    if text.isascii() or text == (whole := text.encode("utf-8", "replace").decode()):
        raise CodecError(f"{type(fact).__name__} cannot be written: {error}") from error
    return whole
