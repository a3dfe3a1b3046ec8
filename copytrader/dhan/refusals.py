"""What a refusal is about, from an answer or from an order that the exchange rejected later.

Dhan's error codes cover many causes each, so it is read from the words.
"""

from __future__ import annotations

import re

from copytrader.core.model import RefusalClass

THROTTLES = frozenset({"DH-904", "805"})
_OF_THE_ACCOUNT = re.compile(r"invalid ip|ip mismatch|static ip|invalid token")
_TOKEN_CODES = frozenset({"DH-901", "807", "808", "809", "810"})


def classify_refusal(status: int | None, code: str, message: str) -> RefusalClass:
    """What a refusal is about.  The words count before the code, and an address before a token."""
    words = message.lower()
    for refusal, pattern in _PATTERNS:
        if pattern.search(words):
            return refusal
    if code in _TOKEN_CODES or status == 401:
        return RefusalClass.TOKEN
    if code in THROTTLES or status == 429:
        return RefusalClass.RATE
    if code == "DH-903":
        return RefusalClass.PRODUCT
    return RefusalClass.OTHER


def explain(refusal: RefusalClass) -> str:
    """One plain sentence: what is wrong and what to do about it."""
    return _EXPLANATIONS[refusal]


_PATTERNS = tuple(
    (refusal, re.compile(pattern))
    for refusal, pattern in (
        (RefusalClass.IP, r"invalid ip|ip address|ip mismatch|static ip|whitelist"),
        (RefusalClass.TOKEN, r"invalid token|access token|token.*(expired|invalid)|unauthori[sz]ed"),
        (RefusalClass.RATE, r"too many requests|rate limit"),
        (RefusalClass.TRANSIT, r"\btransit\b"),
        (RefusalClass.HOURS, r"market is closed|market closed|market hours|after market|\bamo\b|pre-?open"),
        (
            RefusalClass.MARGIN,
            r"insufficient|add funds|please add|required margin|margin (shortfall|exceed)|available margin",
        ),
        (RefusalClass.FREEZE, r"freeze|maximum (order )?quantity|quantity.*(exceed|more than)"),
        (RefusalClass.TICK, r"tick size|16283|\btick\b"),
        (RefusalClass.PRICE_BAND, r"circuit|price band|price range|daily price|\bdpr\b|execution range"),
        (RefusalClass.LOT, r"\blots?\b|lot ?size|multiple of"),
        (
            RefusalClass.ENDED,
            (
                r"(already|has been) (been )?(traded|executed|cancel|reject|complete|closed|expired)"
                r"|order (is )?(traded|executed|cancelled|rejected|completed|closed|expired|not found)"
                r"|no such order|not (an )?open order|cannot be (cancelled|modified)"
            ),
        ),
        (
            RefusalClass.PRODUCT,
            r"product|segment|not (allowed|supported|permitted|enabled|activated)|blocked|restricted|\bban\b",
        ),
    )
)

_EXPLANATIONS = {
    RefusalClass.MARGIN: "The account has too little money for this order: add funds or copy a smaller share.",
    RefusalClass.FREEZE: "The quantity is above the exchange's freeze quantity: run `copytrader instruments sync`.",
    RefusalClass.PRICE_BAND: "The price is outside the exchange's limits for today: check the leader's price.",
    RefusalClass.LOT: "The quantity is not a whole number of lots: run `copytrader instruments sync`.",
    RefusalClass.TICK: "The price is not on the instrument's tick: run `copytrader instruments sync`.",
    RefusalClass.HOURS: "The market is closed for this order: wait for the session or place it as an AMO.",
    RefusalClass.PRODUCT: "The account may not trade this product or segment: enable it at Dhan or filter it out.",
    RefusalClass.TOKEN: "Get a new access token: run `copytrader login` for this account.",
    RefusalClass.IP: "Dhan does not know the address we call from: register it at Dhan or set proxy or source_address.",
    RefusalClass.RATE: "Dhan's rate limit is reached: wait, and see whether other software uses the account.",
    RefusalClass.TRANSIT: "The order is on its way to the exchange: it is tried again once it has arrived.",
    RefusalClass.ENDED: "The order is not open any more: nothing is left to change.",
    RefusalClass.OTHER: "Dhan refused without a reason that we know: read its words and check the order in Dhan's app.",
}


def of_rejected(words: str) -> RefusalClass | None:
    """What a rejected order's own words are about; None where it has none.

    An exchange speaks of lists and addresses of its own: only plain words stop a whole account.
    """
    if not words:
        return None
    refusal = classify_refusal(None, "", words)
    if refusal in (RefusalClass.IP, RefusalClass.TOKEN) and not _OF_THE_ACCOUNT.search(words.lower()):
        return RefusalClass.OTHER
    return refusal
