"""The advice to a live sender."""

from __future__ import annotations

from vedette_server.session.hint import WINDOW_S, RateHint


def window(hint: RateHint, start: float, analysed: int, shed: int) -> bool:
    for _ in range(analysed):
        hint.analysed()
    for _ in range(shed):
        hint.shed()
    return hint.judge(start + WINDOW_S)


def test_a_sender_that_is_kept_up_with_gets_no_hint() -> None:
    hint = RateHint(0.0)
    assert not window(hint, 0.0, analysed=30, shed=0)
    assert hint.fps is None


def test_a_sender_that_is_mostly_shed_hears_the_rate_that_is_used() -> None:
    hint = RateHint(0.0)
    assert window(hint, 0.0, analysed=10, shed=20)
    assert hint.fps == 5.0


def test_a_hint_stands_while_the_useful_rate_hardly_moves() -> None:
    hint = RateHint(0.0)
    window(hint, 0.0, analysed=10, shed=20)
    assert not window(hint, WINDOW_S, analysed=11, shed=20)
    assert hint.fps == 5.0


def test_a_hint_is_taken_back_when_nothing_is_shed() -> None:
    hint = RateHint(0.0)
    window(hint, 0.0, analysed=10, shed=20)
    assert window(hint, WINDOW_S, analysed=10, shed=0)
    assert hint.fps is None


def test_nothing_is_judged_before_the_window_is_over() -> None:
    hint = RateHint(0.0)
    hint.shed()
    assert not hint.judge(WINDOW_S - 0.1)
    assert hint.fps is None
