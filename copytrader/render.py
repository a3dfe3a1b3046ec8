"""The one place that draws: rows as a table, JSON or CSV on stdout, notices on stderr.

A broker's text may hold anything, so whatever reaches a terminal or a spreadsheet is
made harmless here.  Nothing here decides anything.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

Row = Mapping[str, object]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a row's key, and what stands above it where the key would not do.

    A column that `is_whole` is not folded: its words are to be typed as they stand.  One that is `in_threes` has
    the digits of its numbers parted so, as they are in a sentence.
    """

    key: str
    title: str = ""
    is_whole: bool = False
    in_threes: bool = False


def rows(items: Sequence[Row], columns: Sequence[Column], form: Format = Format.TABLE) -> None:
    """Show rows on stdout.  JSON and CSV hold every key of the rows, a table the columns named."""
    match form:
        case Format.JSON:
            document(items)
        case Format.CSV:
            _csv(items, columns)
        case Format.TABLE:
            _table(items, columns)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(plain(value), allow_nan=False, indent=2))


def line(text: str, indent: int = 4) -> None:
    """Print one line of data on stdout; a terminal gets it folded, and what goes on so far to the right."""
    print(folded(clean(text), width_of(sys.stdout), indent))


def notice(text: str) -> None:
    """Say something to the user beside the data, on stderr; where nobody can hear it, it ends no command."""
    with suppress(OSError):
        print(folded(clean(text), width_of(sys.stderr)), file=sys.stderr, flush=True)


def width_of(stream: TextIO) -> int | None:
    """Return how wide a terminal is, None for what is none and gets its lines whole."""
    if not stream.isatty():
        return None
    with suppress(OSError, ValueError):
        return int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(stream.fileno()).columns or None
    return None


def folded(text: str, width: int | None, indent: int = 4) -> str:
    """Break a line between words where a terminal would break it anywhere; a word that is too long stays whole."""
    if width is None or cell_len(text) <= width:
        return text
    below = len(text) - len(text.lstrip()) + indent
    start = " " * (below if below <= width // 2 else 4)
    lines = textwrap.wrap(text, width, subsequent_indent=start, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def csv_row(values: Iterable[object]) -> list[str]:
    """Return a row's cells as CSV has them, harmless to a terminal and a spreadsheet."""
    return [_csv_cell(value) for value in values]


def flush() -> None:
    """Hand what was printed to whoever waits for it at the other end of a pipe."""
    sys.stdout.flush()


def plain(value: object) -> object:
    """Turn a value of ours into what JSON has; a number stays a number where JSON's readers get it exactly."""
    match value:
        case None | bool() | int() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return plain(value.value)
        case Decimal():
            return _json_number(value)
        case float():
            return value
        case datetime():
            return _aware(value).isoformat()
        case date():
            return value.isoformat()
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")


_ESCAPES = re.compile(
    r"""
    (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]         # CSI: colours, cursor
    | (?: \x1b[\]PX^_] | [\x9d\x90\x98\x9e\x9f] )  # OSC, DCS and their like: titles, links
      [^\x07\x1b\x9c]* (?: \x07 | \x1b\\ | \x9c )?
    | \x1b [ -/]* [0-~]                            # the short ones
    """,
    re.VERBOSE,
)
# C0 and C1 controls, and the marks that turn the direction of text or break its line.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def clean(text: str) -> str:
    """Make foreign text one line that cannot steer a terminal."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text))


def _json_number(value: Decimal) -> int | float | str:
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time without an offset says nothing")
    return value


_GAP = 3
"""Blanks between two columns of a table."""
_FOLDED = 12
"""Words longer than this may be folded."""


def _table(items: Sequence[Row], columns: Sequence[Column]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        numbers = any(_is_number(row.get(column.key)) for row in items)
        title = column.title or column.key.replace("_", " ")
        justify: JustifyMethod = "right" if numbers else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=column.is_whole)
    for row in items:
        table.add_row(*(Text(_drawn(row, column)) for column in columns))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:  # nobody sees an edge there: nothing is folded
        console.width = max(console.width, console.measure(table).maximum, 10_000)
    fits = sum(_least_width(items, column) + _GAP for column in columns) <= console.width + _GAP
    with console.capture() as captured:
        console.print(table if fits or not items else _records(items, columns))
    print("\n".join(text.rstrip() for text in captured.get().splitlines()))


def _least_width(items: Sequence[Row], column: Column) -> int:
    """How wide a column must be for its words; long ones, such as the name of an option, may be folded."""
    title = column.title or column.key.replace("_", " ")
    words = [word for row in items for word in _drawn(row, column).split()] + title.split()
    longest = max(map(len, words), default=0)
    return longest if column.is_whole else min(longest, _FOLDED)


def _records(items: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Lay rows out one below the other, a line for each cell that holds something: no word is cut for want of room."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for number, row in enumerate(items):
        if number:
            table.add_row()
        for column in columns:
            if cell := _drawn(row, column):
                table.add_row(Text(column.title or column.key.replace("_", " ")), Text(cell))
    return table


def _drawn(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if column.in_threes and _is_number(value):
        return f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return _cell(value)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return _aware(value).strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return ", ".join(_cell(item) for item in value)
        case Enum():
            return _cell(value.value)
        case _:
            return clean(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _csv(items: Sequence[Row], columns: Sequence[Column]) -> None:
    keys = list(dict.fromkeys([*(column.key for column in columns), *(key for row in items for key in row)]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([_csv_cell(row.get(key)) for key in keys] for row in items)
    print(out.getvalue(), end="")


def _csv_cell(value: object) -> str:
    simple = plain(value)
    match simple:
        case None:
            return ""
        case bool():
            return "true" if simple else "false"
        case _ if isinstance(value, Decimal):
            return f"{value:f}"
        case int() | float():
            return str(simple)
        case str():
            return _no_formula(clean(simple))
        case _:
            return json.dumps(simple)


def _no_formula(text: str) -> str:
    """Keep a spreadsheet from running text as a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
