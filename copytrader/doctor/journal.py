"""What the journal says: whether it is sound, and what the last session left behind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from copytrader import errand, session
from copytrader.config import Config
from copytrader.core import days, left_out
from copytrader.core.engine import recall
from copytrader.core.facts import Started
from copytrader.core.model import Calendar
from copytrader.core.state import State
from copytrader.doctor.check import Check, fail, ok, warn
from copytrader.journal import Journal, JournalError
from copytrader.narrate import left_open

MANY_FACTS = 300_000
SECONDS_A_FACT = 40e-6
"""What the start of `follow` takes for each fact of the journal, measured with a million."""


def look(config: Config) -> Iterator[Check]:
    """Look at all of it; of one that is not sound nothing else is believed."""
    folder = config.journal.parent
    if not folder.is_dir():
        yield ok("journal", f"{config.journal} is not there yet: `copytrader follow` creates it and its directory")
        return
    if not config.journal.exists():
        yield ok("journal", f"{config.journal} is not there yet: `copytrader follow` creates it")
        return
    if is_empty(config.journal):
        detail = f"{config.journal} is empty: `copytrader follow` begins it anew"
        yield warn("journal", detail, "restore a backup if it held anything")
        return
    try:
        with Journal.open(config.journal, read_only=True) as journal:
            findings = journal.verify()
            if findings:
                first = findings[0]
                where = "" if first.seq is None else f"fact {first.seq}: "
                yield fail("journal", f"{where}{first.what}", "keep the file, restore a backup, see docs/journal.md")
                return
            yield ok("journal", f"{journal.last_seq:,} facts, the file is sound and the chain is whole")
            yield from _long_start(journal)
            state = recall(journal.happened())
            if another := session.another_leader(config, journal.happened(kinds={Started.__name__}), state):
                yield fail("leader of the journal", *another)
            yield from _left(state, len(journal.outbox()))
            renamed = days.renamed(state, config.desk(Calendar()), session.now())
            yield from (_renamed(*each) for each in renamed)
            yield _halt(errand.halted(config, state, [event for _, event in journal.words()]))
            yield from _left_out(state, {old for _, old, _ in renamed})
    except JournalError as error:
        yield fail("journal", str(error), "see docs/journal.md")


def is_empty(journal: Path) -> bool:
    return journal.is_file() and journal.stat().st_size == 0


def _long_start(journal: Journal) -> Iterator[Check]:
    """Warn of a journal that holds so many facts that `follow` is long in rebuilding its state from them."""
    _, ((count,),) = journal.query("SELECT count(*) FROM facts")
    if count > MANY_FACTS:
        detail = f"{count:,} facts are kept: `copytrader follow` takes about {count * SECONDS_A_FACT:.0f} s to begin"
        yield warn("length of the journal", detail, "copytrader audit prune --before DAY, while follow is stopped")


def _left(state: State, unanswered: int) -> Iterator[Check]:
    """What the last session left behind."""
    unknown = max(len(state.unknowns()), unanswered)
    if unknown:
        remedy = "start `copytrader follow`: it asks Dhan first, and never sends them again"
        yield warn("unknown outcomes", f"{unknown} orders of which no answer is recorded", remedy)
    else:
        yield ok("unknown outcomes", "every order's answer is recorded")
    left = list(left_open(state))
    if left:
        more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
        yield ok("left from before", "; ".join(left[:3]) + more)


def _renamed(new: str, old: str, has: str) -> Check:
    remedy = f"name it {old} again: `copytrader follow` does not start"
    return fail("names", f"{new} has the account of {old}, which {has}", remedy)


def _left_out(state: State, renamed: Collection[str]) -> Iterator[Check]:
    """Who has something from copying, and is served no longer."""
    for name, has in left_out.left_out(state).items():
        if name not in renamed:
            remedy = f"nobody looks after that: enable {name} again, or close that by hand"
            yield warn("left out", f"{name} {has}", remedy)


def _halt(halted: Collection[str]) -> Check:
    if halted:
        return fail("halt", f"{', '.join(halted)}: halted, no entry is copied", "copytrader resume")
    return ok("halt", "nobody is halted")
