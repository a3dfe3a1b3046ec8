"""What is wrong with a configuration, in one line per mistake: the key, the remedy, the value, the place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from copytrader.config.models import SECRET_KEYS, keys_at
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_TEXT = "must be text in quotes"
_WORDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": _TEXT,
    "path_type": _TEXT,
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "date_type": "must be a date without quotes, as 2026-11-25",
    "time_type": "must be a time without quotes, as 09:15:00",
    "model_type": "must be a section",
    "model_attributes_type": "must be a section",
    "dict_type": "must be a section",
}
_MISSING = {
    "leader": ": add a [leader] section with its client_id",
    "limits": ": set limits, or `unlimited = true` to copy without any",
    "client_id": ": it is the account's number at Dhan, in quotes",
}


class ConfigError(Failure):
    """The configuration cannot be used; `lines` names every mistake in it."""

    code = ExitCode.USAGE


Keys = Callable[[tuple[str, ...]], Collection[str]]
"""The keys that a section may hold, by its path."""


def lines(error: ValidationError, origin: Callable[[tuple[str, ...]], str], keys: Keys = keys_at) -> Iterable[str]:
    """Word each error of pydantic's as one line; `origin` says where a key's value came from."""
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        yield f"{'.'.join(path)} {_problem(detail, path, keys)}{_shown(detail, path)} ({origin(path)})"


def _problem(detail: ErrorDetails, path: tuple[str, ...], keys: Keys) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return f"is missing{_MISSING.get(path[-1], '')}"
        case "extra_forbidden":
            return f"is no key of copytrader's{_suggestion(path, keys)}"
        case "value_error":
            return str(context["error"])
        case "greater_than":
            return f"must be above {context['gt']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than":
            return f"must be below {context['lt']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "enum" | "literal_error":
            return f"must be {context['expected'].replace(chr(39), chr(34))}"
        case other:
            return _WORDS.get(other, "is not valid")


def _suggestion(path: tuple[str, ...], keys: Keys) -> str:
    known = keys(path[:-1])
    close = difflib.get_close_matches(path[-1].lower(), known, n=1)
    if close:
        return f": did you mean {close[0]}?"
    return f": it may be one of {', '.join(known)}" if known else ""


def _shown(detail: ErrorDetails, path: tuple[str, ...]) -> str:
    """Quote the value, unless it could be a secret or says nothing."""
    value = detail["input"]
    unsafe = SECRET_KEYS & set(path) or detail["type"] in ("extra_forbidden", "missing") or "[key]" in detail["loc"]
    if unsafe or isinstance(value, dict | list | tuple) or (isinstance(value, str) and "@" in value):
        return ""
    text = _quoted(value) if isinstance(value, str | bool) else str(value)
    return f", was {text if len(text) <= 60 else text[:60] + '…'}"


def _quoted(value: str | bool) -> str:
    """Quote a value as it would stand in the file; letters that cannot be shown are escaped."""
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable())
