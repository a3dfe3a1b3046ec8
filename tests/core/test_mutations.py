"""The list of breakable rules follows the code; that each is noticed shows `python -m tests.core.mutate`."""

from __future__ import annotations

from pathlib import Path

import pytest

import copytrader.core
from tests.core.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.rule)
def test_the_rule_is_where_the_list_says(mutation: Mutation) -> None:
    source = (Path(copytrader.core.__file__).parent / mutation.file).read_text()

    assert source.count(mutation.original) == 1
