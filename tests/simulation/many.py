"""Many seeds on every processor, each within a bounded time."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from tests.simulation.world import Outcome, run

SECONDS_AT_MOST = 20
"""A seed takes a twentieth of a second; one that takes this long goes round in circles."""
_CHUNK = 20


class Endless(BaseException):
    """The seed goes on for ever; nothing in the product may catch this."""


def play_many(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        for seed in seeds:
            yield from play_chunk([seed])
        return
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for outcomes in pool.imap(play_chunk, chunks):
            yield from outcomes


def play_chunk(seeds: Sequence[int]) -> list[Outcome]:
    """Play some seeds; garbage is collected between them only, at moments that do not depend on the machine."""
    gc.disable()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return [_bounded(seed, Path(folder)) for seed in seeds]
    finally:
        gc.enable()
        gc.collect()


def _bounded(seed: int, folder: Path) -> Outcome:
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(SECONDS_AT_MOST)
    try:
        return run(seed, folder)
    except Endless as error:
        return Outcome(seed, (f"it goes on for ever, here: {error}",), "")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_number: int, frame: FrameType | None) -> None:
    where = []
    while frame is not None and len(where) < 8:
        where.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    raise Endless(" < ".join(where))
