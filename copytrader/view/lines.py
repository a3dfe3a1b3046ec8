"""Lines of styled text: how long they are, and how they are made to fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

Piece = tuple[str, str]
"""Some text and its style."""
Line = list[Piece]


def length(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def ends(left: Line, right: Line, width: int) -> Line:
    """Put one part of a line to the left edge and one to the right."""
    left = cut(left, width - length(right) - 1)
    return [*left, (" " * (width - length(left) - length(right)), ""), *right]


def cut(line: Line, width: int) -> Line:
    """End a line at the terminal's edge, with a mark where something is missing."""
    if length(line) <= width:
        return line
    kept: Line = []
    room = max(width - 1, 0)
    for text, style in line:
        size = min(cell_len(text), room)
        kept.append((set_cell_size(text, size), style))
        room -= size
    return [*kept, ("…", "dim")]


def as_many(line: Line, parts: Sequence[Line], width: int) -> Line:
    """Add as many parts to a line as there is room for, each whole, and how many are not there."""
    line = list(line)
    for place, part in enumerate(parts):
        missing = len(parts) - place
        needed = length(part) + (length(_more(missing - 1)) if missing > 1 else 0)
        if length(line) + needed > width:
            return line + _more(missing)
        line += part
    return line


def _more(number: int) -> Line:
    return [(f"  +{number} more", "dim")]


def at_most(rows: Sequence[Line], most: int) -> Iterator[Line]:
    """Show as many rows as there is room for, and how many are not shown."""
    if len(rows) <= most:
        yield from rows
        return
    yield from rows[: most - 1]
    yield [(f"  and {len(rows) - most + 1} more", "dim")]
