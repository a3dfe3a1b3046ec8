"""A local Dhan: accounts, an exchange that fills, faults on demand, and a ledger that judges.

Written from what the broker is known to do and from captured payloads; it shares no code
with the rest of the package, so that a mistake made there cannot hide here.
"""

from __future__ import annotations

from copytrader.simulator.exchange import Exchange, Settings
from copytrader.simulator.faults import Fault, FaultKind, Response
from copytrader.simulator.ledger import Ledger, LedgerRow, Violation
from copytrader.simulator.model import IST, Account, BookOrder, Carried, Holding, Instrument, Terms
from copytrader.simulator.streams import Break, StreamFaults
from copytrader.simulator.trader import AppTrader
from copytrader.simulator.world import LEADER_ID, SCENARIOS, client_ids, furnish, options_desk, token_of

__all__ = [
    "IST",
    "LEADER_ID",
    "SCENARIOS",
    "Account",
    "AppTrader",
    "BookOrder",
    "Break",
    "Carried",
    "Exchange",
    "Fault",
    "FaultKind",
    "Holding",
    "Instrument",
    "Ledger",
    "LedgerRow",
    "Response",
    "Settings",
    "StreamFaults",
    "Terms",
    "Violation",
    "client_ids",
    "furnish",
    "options_desk",
    "token_of",
]
