"""The instrument master: lot sizes, ticks and freeze quantities from Dhan's daily file.

`download` fetches the file, `file` reads its rows, `store` keeps them and answers.
"""

from copytrader.dhan.master.download import Progress
from copytrader.dhan.master.errors import MasterError
from copytrader.dhan.master.store import Change, InstrumentStore, SyncReport

__all__ = ["Change", "InstrumentStore", "MasterError", "Progress", "SyncReport"]
