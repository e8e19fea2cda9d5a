from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_session import Rig, ToyEngine, ToyListener
from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.errors import ConflictError, DisplacedError, InvalidError, LimitError, NotFoundError
from vedette_server.session.ended import EndedSession
from vedette_server.session.registry import REMEMBERED_SESSIONS, Registry

if TYPE_CHECKING:
    from vedette_server.session.session import Session

WINDOW_S = 30.0


def config(channel: str = "a", version: str = "1") -> ChannelConfig:
    return ChannelConfig(channel, VideoFormat(Codec.H264), (EngineRef("toy", version),))


class Desk:
    """A registry with a clock, and what it reported."""

    def __init__(self, max_channels: int = 10) -> None:
        self.now = 0.0
        self.taken: list[Session] = []
        self.gone: list[tuple[Session, bool]] = []
        self.registry = Registry(
            max_channels,
            WINDOW_S,
            on_taken=self.taken.append,
            on_gone=lambda session, free: self.gone.append((session, free)),
            clock=lambda: self.now,
        )
        self.rigs: dict[int, Rig] = {}

    def open(self, channel: str = "a", *, resume: tuple[int, int] | None = None) -> Session:
        """Create a connected session; its end is reported as the app would."""
        rig = Rig()
        parts = replace(rig.session._parts, on_over=lambda _: None)
        session = rig.session = self.registry.create(config(channel), parts, resume)
        self.rigs[id(session)] = rig
        session.attach(ToyListener(), None, None)
        return session

    def close(self, session: Session) -> None:
        """Let a session end, with nothing in it."""
        session.finish()
        self.work(session)

    def work(self, session: Session) -> None:
        while session.work():
            pass
        if session.over:
            self.registry.over(session)

    @staticmethod
    def leave(session: Session) -> None:
        listener = session._listener
        assert listener is not None
        session.detach(listener)


def test_a_connected_channel_is_taken_and_a_deserted_one_is_free():
    desk = Desk()
    session = desk.open()
    with pytest.raises(ConflictError) as caught:
        desk.registry.check_free("a", takeover=False)
    assert caught.value.reason == "CHANNEL_TAKEN"
    desk.registry.check_free("a", takeover=True)
    desk.leave(session)
    desk.registry.check_free("a", takeover=False)


def versions(version: str) -> ChannelConfig:
    return replace(config(), engines=(EngineRef("toy", version),))


@pytest.mark.parametrize(("asked", "again"), [("", ""), ("1", "1"), ("1", ""), ("", "1"), ("", "2")])
def test_a_stream_is_resumed_whatever_version_has_taken_over(asked: str, again: str):
    """A client may name the version that it was told was running, be it before or after a swap."""
    desk = Desk()
    session = desk.open()
    session.config = versions(asked)
    engine: Any = ToyEngine("2")
    session.rebind((engine,))
    assert desk.registry.resumable(session.identity.token, versions(again)) is session


@pytest.mark.parametrize(("asked", "again"), [("1", "2"), ("", "3")])
def test_a_stream_is_not_resumed_with_a_version_that_it_neither_asked_for_nor_ran(asked: str, again: str):
    desk = Desk()
    session = desk.open()
    session.config = versions(asked)
    with pytest.raises(InvalidError, match="engines"):
        desk.registry.resumable(session.identity.token, versions(again))


def test_channels_are_counted_and_a_taken_one_does_not_count_twice():
    desk = Desk(max_channels=2)
    desk.open("a")
    desk.open("b")
    with pytest.raises(LimitError) as caught:
        desk.registry.check_free("c", takeover=False)
    assert caught.value.reason == "TOO_MANY_CHANNELS"
    desk.registry.check_free("a", takeover=True)


def test_a_new_session_ends_the_one_that_held_its_channel():
    desk = Desk()
    old = desk.open()
    new = desk.open()
    desk.work(old)
    assert old.end_reason == "TAKEN_OVER"
    assert isinstance(old.outgoing().error, DisplacedError)
    assert desk.gone == [(old, False)]
    assert desk.registry.live == [new]
    assert desk.registry.resumable(old.identity.token, config()) is None


def test_a_deserted_session_that_loses_its_channel_keeps_no_verdicts():
    desk = Desk()
    old = desk.open()
    rig = desk.rigs[id(old)]
    old.receive(Packet(0, b"K", keyframe=True))
    old.finish()
    while old.work():
        pass
    assert rig.scheduler.queue[0].channel is old
    rig.run()
    assert old.depths == (0, 1)
    desk.leave(old)
    desk.open()
    assert old.depths == (0, 0)


def test_a_session_that_is_over_frees_its_channel_and_keeps_its_token_for_a_while():
    desk = Desk()
    session = desk.open()
    desk.close(session)
    assert desk.gone == [(session, True)]
    assert desk.registry.live == []
    assert desk.registry.resumable(session.identity.token, config()) is session
    desk.leave(session)
    desk.now = WINDOW_S + 1
    session.ended_s = 0.0
    desk.registry.sweep()
    assert desk.registry.resumable(session.identity.token, config()) is None


def test_a_token_resumes_its_own_channel_with_the_same_stream_only():
    desk = Desk()
    session = desk.open()
    token = session.identity.token
    assert desk.registry.resumable(token, config()) is session
    assert desk.registry.resumable("nobody's", config()) is None
    others: list[Any] = [
        config("b"),
        replace(config(), format=VideoFormat(Codec.HEVC)),
        replace(config(), engines=(EngineRef("other"),)),
        replace(config(), engines=(EngineRef("toy", "2"),)),
        replace(config(), engines=(EngineRef("toy"), EngineRef("other"))),
        replace(config(), engines=()),
    ]
    for other in others:
        with pytest.raises(InvalidError) as caught:
            desk.registry.resumable(token, other)
        assert caught.value.reason == "RESUME_MISMATCH"


def test_a_version_that_was_left_open_resumes_whatever_is_newest_now():
    desk = Desk()
    session = desk.open()
    assert desk.registry.resumable(session.identity.token, config(version="")) is session


def test_who_does_not_come_back_in_time_is_ended():
    desk = Desk()
    session = desk.open()
    desk.leave(session)
    session.detached_s = 0.0
    desk.now = WINDOW_S - 1
    desk.registry.sweep()
    assert not session.end_reason
    desk.now = WINDOW_S
    desk.registry.sweep()
    desk.work(session)
    assert session.end_reason == "CONNECTION_LOST"
    assert desk.registry.live == []


def test_who_is_cut_while_hearing_the_end_may_come_back_for_as_long_as_anybody():
    desk = Desk()
    session = desk.open()
    desk.close(session)
    session.ended_s = 0.0
    desk.leave(session)
    session.detached_s = WINDOW_S - 1
    desk.now = 2 * WINDOW_S - 2
    desk.registry.sweep()
    assert desk.registry.resumable(session.identity.token, config()) is session
    desk.now = 2 * WINDOW_S
    desk.registry.sweep()
    assert desk.registry.resumable(session.identity.token, config()) is None


def test_who_leaves_after_losing_its_channel_leaves_no_verdicts_behind():
    desk = Desk()
    old = desk.open()
    old.receive(Packet(0, b"K", keyframe=True))
    desk.open()
    desk.leave(old)
    desk.registry.sweep()
    while old.work():
        pass
    assert old.depths == (0, 0)
    assert old.account.packets_pending == 0


def test_who_is_connected_is_never_swept():
    desk = Desk()
    session = desk.open()
    desk.now = 1e6
    desk.registry.sweep()
    assert not session.end_reason


def test_a_session_that_is_taken_up_again_gets_its_channel_back():
    desk = Desk()
    session = desk.open()
    desk.close(session)
    session.attach(ToyListener(), 0, 1)  # it numbered a packet that never came
    desk.registry.hold_again(session)
    assert desk.registry.live == [session]
    assert desk.taken == [session, session]


def test_the_end_of_a_session_that_was_taken_up_meanwhile_is_no_news():
    desk = Desk()
    session = desk.open()
    session.finish()
    while session.work():
        pass
    session.attach(ToyListener(), 0, 1)
    desk.registry.over(session)
    assert desk.gone == []
    assert desk.registry.live == [session]


def test_a_session_that_is_taken_up_again_does_not_share_its_channel():
    desk = Desk()
    session = desk.open()
    desk.close(session)
    desk.leave(session)
    other = desk.open()
    with pytest.raises(ConflictError) as caught:
        desk.registry.check_holder(session, 1)
    assert caught.value.reason == "CHANNEL_TAKEN"
    # Nothing was touched: it is still over, and its client may hear its last words.
    assert session.over
    desk.registry.check_holder(session, 0)
    session.attach(ToyListener(), 0, 0)
    desk.registry.hold_again(session)
    assert desk.registry.live == [other]


def test_a_session_that_is_taken_up_again_needs_a_channel_that_is_left():
    desk = Desk(max_channels=1)
    session = desk.open("a")
    desk.close(session)
    desk.open("b")
    with pytest.raises(LimitError) as caught:
        desk.registry.check_holder(session, 1)
    assert caught.value.reason == "TOO_MANY_CHANNELS"


def test_sessions_are_found_by_name_and_the_latest_by_a_dash():
    desk = Desk()
    first = desk.open("a")
    desk.open("b")
    second = desk.open("a")
    assert desk.registry.get("a", "-") is second
    assert desk.registry.get("a", first.identity.session) is first
    assert [one.identity.channel for one in desk.registry.all()] == ["a", "b", "a"]
    for channel, session in (("c", "-"), ("b", first.identity.session)):
        with pytest.raises(NotFoundError):
            desk.registry.get(channel, session)


def test_of_a_session_that_nobody_can_resume_only_the_account_is_kept():
    desk = Desk()
    session = desk.open()
    desk.close(session)
    desk.registry.sweep()
    assert desk.registry.get("a", "-") is session
    desk.leave(session)
    desk.now = 2 * WINDOW_S
    session.ended_s = 0.0
    desk.registry.sweep()
    kept = desk.registry.get("a", "-")
    assert isinstance(kept, EndedSession)
    assert (kept.identity, kept.end_reason, kept.account) == (session.identity, "FINISHED", session.account)


def test_a_session_that_still_waits_for_its_engine_is_kept_whole():
    desk = Desk()
    session = desk.open()
    desk.leave(session)
    session.detached_s = 0.0
    desk.now = WINDOW_S
    desk.registry.sweep()
    assert desk.registry.get("a", "-") is session
    desk.work(session)
    desk.registry.sweep()
    assert isinstance(desk.registry.get("a", "-"), EndedSession)


def test_the_oldest_sessions_are_forgotten_and_a_living_one_is_not(monkeypatch: pytest.MonkeyPatch):
    assert REMEMBERED_SESSIONS >= 1000
    monkeypatch.setattr("vedette_server.session.registry.REMEMBERED_SESSIONS", 3)
    desk = Desk(max_channels=100)
    living = desk.open("living")
    for number in range(10):
        desk.close(desk.open(f"channel-{number}"))
    remembered = desk.registry.all()
    assert living in remembered
    assert len(remembered) <= 5
    assert desk.registry.get("channel-9", "-")


def test_a_client_whose_session_was_lost_goes_on_counting():
    desk = Desk()
    session = desk.open(resume=(7, 9))
    attachment = session.attach(ToyListener(), None, None)
    assert (attachment.next_verdict_index, attachment.next_sequence) == (7, 9)
    session.end("DRAINING", SkipReason.DRAINING)
    desk.work(session)
    assert session.over
