"""A real options trader's morning from its frames alone, at ratio 0.5 against 1.0, worked out by hand.

Ten entries of 150 (two lots) were filled and nine of them left again, at

    22400 PE   188.10 -> 195    193    -> 188    196.75 -> 196     6.90 - 5.00 - 0.75 =   1.15
    22350 PE   191.35 -> 180.6  180    -> 174    161.20 -> 157.2  -10.75 - 6 - 4      = -20.75
    22350 CE   178    -> 169.3  175    -> 170                      -8.70 - 5          = -13.70
    22400 CE   149.40 -> 157.4  161 kept                            8.00              =   8.00

Three entries were cancelled unfilled and two orders rejected for margin.  Sixteen modifications.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.stage import CAPTURES
from tests.replay.support import Row, account, desk, outcomes, played

SESSION = CAPTURES / "payloads" / "ws_2025-03-06_session.jsonl"
POINTS = {
    "NIFTY 13 MAR 22400 PUT": Decimal("1.15"),
    "NIFTY 13 MAR 22350 PUT": Decimal("-20.75"),
    "NIFTY 13 MAR 22350 CALL": Decimal("-13.70"),
    "NIFTY 13 MAR 22400 CALL": Decimal("8.00"),
}
BOUGHT = "188.1 193 196.75 191.35 180 161.2 178 175 149.4 161"
SOLD = "195 188 196 180.6 174 157.2 169.3 170 157.4"

pytestmark = pytest.mark.skipif(not SESSION.exists(), reason="the captures are not here")


@pytest.fixture(scope="module")
def document() -> Row:
    return played(desk("asha:ratio=0.5"), desk("asha:ratio=1.0"), path=SESSION)


def expected(units: int) -> list[tuple[int, int, str | None]]:
    """Quantity, fill and reason of each of the 24 orders in the order of their first frames."""
    unfilled, filled = (units, 0, None), (units, units, None)
    rejected = (0, 0, "LEADER_DONE")
    return [
        *[filled] * 2, unfilled, *[filled] * 4, unfilled, filled, rejected, *[filled] * 3, *[filled] * 4,
        *[filled] * 2, rejected, unfilled, *[filled] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize(("result", "name", "units"), [(0, "as_configured", 75), (1, "what_if", 150)])
class TestEachRatio:
    def test_its_orders_come_out_one_by_one(self, document: Row, result: int, name: str, units: int) -> None:
        assert outcomes(document, "asha", name) == expected(units)

    def test_each_order_fills_at_the_leader_s_price(self, document: Row, result: int, name: str, units: int) -> None:
        by_order: dict[str, dict[str, Any]] = {}
        for row in document["orders"]:
            by_order.setdefault(row["leader_order_id"], {})[row["account"]] = row[name]["average_price"]
        assert all(prices["asha"] == prices["leader"] for prices in by_order.values())

    def test_its_results_by_instrument(self, document: Row, result: int, name: str, units: int) -> None:
        found = {
            row["instrument"]: row["realized"]
            for row in document["results"][result]["instruments"]
            if row["account"] == "asha"
        }
        assert found == {instrument: points * units for instrument, points in POINTS.items()}

    def test_its_sums(self, document: Row, result: int, name: str, units: int) -> None:
        asha = account(document, "asha", result)
        prices = sum(map(Decimal, f"{BOUGHT} {SOLD}".split()))
        assert asha["realized"] == Decimal("-25.30") * units
        assert asha["traded_value"] == prices * units
        assert asha["lots"] == 19 * units // 75
        assert asha["largest_exposure"] == asha["largest_margin"] == Decimal("196.75") * units
        assert (asha["orders"], asha["modifications"], asha["cancels"]) == (22, 16, 3)
        assert asha["skips"] == {"LEADER_DONE": 2}


def test_the_leader_s_own_result_is_that_of_ratio_one(document: Row) -> None:
    leader, asha = account(document, "leader"), account(document, "asha", 1)
    assert {key: leader[key] for key in ("realized", "traded_value", "lots", "largest_exposure")} == {
        key: asha[key] for key in ("realized", "traded_value", "lots", "largest_exposure")
    }


def test_every_copied_order_differs_and_nothing_else(document: Row) -> None:
    assert document["differing"] == 22
    assert all(row["account"] == "asha" for row in document["orders"] if row["differs"])
    assert document["changed_rules"] == ["followers.asha.sizing.ratio: 0.5 -> 1.0"]
