"""What can go wrong with the instrument master."""

from __future__ import annotations

from copytrader.failure import Failure


class MasterError(Failure):
    """The instruments could not be read; the old ones are kept."""
