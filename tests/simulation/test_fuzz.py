from __future__ import annotations

from tests.simulation import fuzz


def test_mangled_frames_are_refused_in_plain_words() -> None:
    seen = fuzz.fuzz_reader(20_000)

    assert seen["refused"] > 10_000
    assert seen["read"] > 1_000


def test_mangled_frames_cause_no_order_and_no_end() -> None:
    seen = fuzz.fuzz_copier(1_500)

    assert seen["refused"] > 500


def test_mangled_answers_are_outcomes_or_broker_errors() -> None:
    seen = fuzz.fuzz_broker(4_000)

    assert seen["Unanswered"] > 1_000
    assert seen["unreadable"] > 1_000
