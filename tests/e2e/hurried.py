"""The command as it is, except that it waits seconds where it would wait for minutes.

`$GIVE_UP_AFTER`: until an order that nobody finds is given up.  `$ANSWER_WITHIN`: for an answer.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from copytrader.cli import main
from copytrader.core import answers
from copytrader.dhan.transport import HttpTransport

if __name__ == "__main__":
    answers.ABSENT_AFTER = timedelta(seconds=float(os.environ["GIVE_UP_AFTER"]))
    opening: Any = HttpTransport.__init__
    opening.__kwdefaults__["read_timeout"] = float(os.environ["ANSWER_WITHIN"])
    main()
