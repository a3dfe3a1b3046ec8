"""How our orders are named: the same copy has the same name on every machine, for ever."""

from __future__ import annotations

import base64
import hashlib
from datetime import date

from copytrader.core.model import PREFIX


def correlation_id(
    leader_client_id: str,
    trade_date: date,
    leader_order_id: str,
    follower_client_id: str,
    generation: int = 0,
    slice_number: int = 0,
) -> str:
    """Return the 25 characters by which one slice of one copy is known at the broker.

    At most 25 characters of `[a-z0-9-]`: what the sandbox accepts, and production too.
    """
    order = f"{leader_client_id}|{trade_date.isoformat()}|{leader_order_id}"
    text = f"v1|{order}|{follower_client_id}|{generation}|{slice_number}"
    digest = hashlib.sha256(text.encode()).digest()
    return PREFIX + base64.b32encode(digest[:15]).decode()[:21].lower()
