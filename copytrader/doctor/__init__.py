"""Every reason why today's copying would fail, found before it does; each with its remedy.

    check       one thing that was looked at
    machine     what is on this machine
    journal     what the journal says
    market      what is known of what trades
    accounts    what Dhan says of one account
    together    what only all accounts together show
    examining   looks at all of it at once

Checks are values.  Nothing is changed, and no order is sent.
"""

from copytrader.doctor.check import Check, Status
from copytrader.doctor.examining import examine

__all__ = ["Check", "Status", "examine"]
