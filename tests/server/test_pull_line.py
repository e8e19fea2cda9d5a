"""A pulled camera's connection keeps to its credits, lets verdicts go, and hears how its session ends."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_session import EVERY_FRAME, LIVE, WINDOW, Rig, ToyListener
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.errors import DisplacedError, LimitError, UnavailableError
from vedette_server.pull.line import Line

NOW, NEVER = threading.Event(), threading.Event()
NOW.set()


def attach(rig: Rig) -> Line:
    line = Line(rig.session)
    line.attached(rig.session.attach(line, None, None))
    return line


def picture(kind: str = "K") -> Packet:
    return Packet(0, kind.encode().ljust(20, b"."), keyframe=kind == "K")


def test_packets_are_numbered_on_over_connections() -> None:
    rig = Rig(policy=LIVE)
    line = attach(rig)
    sent = [picture(), picture(), picture()]
    line.send(sent[0])
    line.send(sent[1])
    line.leave()
    again = attach(rig)
    again.send(sent[2])
    assert [packet.sequence for packet in sent] == [0, 1, 2]
    assert rig.session.account.packets_received == 3


def test_verdicts_are_let_go_as_soon_as_they_are_told() -> None:
    rig = Rig(policy=LIVE)
    line = attach(rig)
    for _ in range(200):
        line.send(picture())
        rig.settle_all()
        assert rig.session.depths[1] == 0
    assert line.verdicts > 190


def test_a_recording_is_slowed_by_its_credits() -> None:
    rig = Rig(policy=EVERY_FRAME)
    line = attach(rig)
    sent = 0
    while line.has_room(20):
        line.send(picture())
        sent += 1
    assert sent == WINDOW
    assert not line.wait_for_room(20, NOW)
    rig.settle_all()
    assert line.wait_for_room(20, NEVER)


def test_who_waits_for_room_hears_of_the_sessions_end() -> None:
    rig = Rig(policy=EVERY_FRAME)
    line = attach(rig)
    while line.has_room(20):
        line.send(picture())
    rig.session.end("TOLD_TO", SkipReason.SESSION_LOST, UnavailableError("TOLD_TO", "told to"))
    threading.Timer(0.05, rig.settle_all).start()
    with pytest.raises(UnavailableError, match="told to"):
        line.wait_for_room(20, NEVER)
    assert line.over
    assert rig.session.account.packets_pending == 0


def test_after_the_end_everything_is_judged_and_told() -> None:
    rig = Rig(policy=EVERY_FRAME)
    line = attach(rig)
    line.send(picture())
    line.send(picture())
    line.finish()
    assert not line.over
    assert not line.wait_until_over(5.0, NOW)
    rig.settle_all()
    assert line.wait_until_over(5.0)
    assert line.closing is not None
    assert line.closing.analysed == 2
    with pytest.raises(UnavailableError, match="FINISHED"):
        line.send(picture())


def test_a_line_that_left_takes_no_news_that_the_next_one_needs() -> None:
    rig = Rig(policy=EVERY_FRAME)
    old = attach(rig)
    while old.has_room(20):
        old.send(picture())
    old.leave()
    rig.session.attach(ToyListener(), None, None)
    rig.settle_all()
    old.news()  # of a lane that had begun to ring before
    news = rig.session.outgoing()
    assert len(news.verdicts) == WINDOW - 1  # the decoder holds one
    assert news.flow is not None
    assert news.flow.send_through_sequence == 2 * WINDOW - 1
    assert not old.over


def test_a_line_that_was_displaced_says_so() -> None:
    rig = Rig(policy=LIVE)
    old = attach(rig)
    attach(rig)
    assert old.over
    with pytest.raises(DisplacedError, match="another connection"):
        old.send(picture())


def test_a_packet_that_is_refused_counts_all_the_same() -> None:
    rig = Rig(policy=EVERY_FRAME)
    line = attach(rig)
    while line.has_room(20):
        line.send(picture())
    with pytest.raises(LimitError, match="beyond the credit"):
        line.send(picture())
    line.leave()
    rig.settle_all()
    again = attach(rig)
    packet = picture()
    again.send(packet)
    assert packet.sequence == WINDOW + 1
    again.finish()
    rig.settle_all()
    assert rig.session.account.packets_pending == 0


@given(st.lists(st.sampled_from("KPB.wre"), max_size=80), st.booleans())
@settings(max_examples=120, deadline=None)
def test_whatever_happens_credits_are_kept_and_every_packet_is_judged(steps: list[str], live: bool) -> None:
    rig = Rig(policy=LIVE if live else EVERY_FRAME, omit_skips=True)
    line = attach(rig)
    sent = 0
    for step in steps:
        if step in "KPB" and line.has_room(20):
            line.send(picture(step))
            sent += 1
        elif step == ".":
            rig.run()
        elif step == "w":
            rig.work()
        elif step == "e":
            rig.settle_all()
        elif step == "r":
            line.leave()
            line = attach(rig)
            line.news()
    rig.settle_all()
    assert line.has_room(20)  # nothing waits: a line that saw no room now would wait for ever
    line.finish()
    rig.settle_all()
    assert line.closing is not None
    account = rig.session.account
    assert account.packets_received == sent
    assert account.analysed + sum(account.skipped.values()) == sent
    assert rig.session.depths == (0, 0)
