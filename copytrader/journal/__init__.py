"""The journal: what happened and what was decided, once, in order, for ever."""

from copytrader.journal.chain import Finding
from copytrader.journal.errors import JournalError
from copytrader.journal.rows import Row
from copytrader.journal.store import Journal, Step

__all__ = ["Finding", "Journal", "JournalError", "Row", "Step"]
