"""What becomes of a session whose client leaves and comes back."""

from __future__ import annotations

from support_session import LIVE, ToyListener, reasons, rig, stream
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet


def test_a_second_cut_in_mid_replay_leaves_no_hole_in_what_the_decoder_gets():
    made = rig()
    stream(made, "KPP")
    made.session.finish()
    made.settle_all()
    made.sent += ["P", "P"]
    made.connect()
    made.give(0, "K")
    made.settle_all()
    attachment = made.connect()
    assert (attachment.keyframe_needed, attachment.next_sequence) == (True, 3)
    for sequence, kind in enumerate("KPPPP"):
        made.give(sequence, kind)
    made.settle_all()
    assert not made.connect().keyframe_needed
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(5))


def test_a_session_that_ends_while_nobody_listens_keeps_its_verdicts_for_who_comes_back():
    made = rig()
    for kind in "KPW":
        made.send(kind)
    made.disconnect()
    made.settle_all()
    made.connect()
    made.hear()
    undecodable = SkipReason.UNDECODABLE
    assert reasons(made) == {0: None, 1: undecodable, 2: undecodable}
    assert made.error is not None
    assert made.error.reason == "PICTURE_TOO_LARGE"
    assert made.closing.verdicts == 3


def test_a_live_replay_that_finds_no_room_costs_pictures_and_not_the_stream():
    made = rig(policy=LIVE)
    stream(made, "K" + "P" * 9)
    made.session.finish()
    made.settle_all()
    made.sent += ["P", "K", "P"]
    made.connect()
    big = 30_000  # the inbox takes 100 000 bytes to be decoded only
    for sequence in range(10):
        data = (b"P" if sequence else b"K").ljust(big, b".")
        made.session.receive(Packet(sequence, data, pts=sequence, keyframe=not sequence))
    for sequence, kind in enumerate("PKP", start=10):
        made.give(sequence, kind)
        made.settle_all()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert [reasons(made)[sequence] for sequence in (10, 11, 12)] == [SkipReason.LOST_REFERENCE, None, None]


def test_what_the_client_dropped_is_counted_once_however_often_a_packet_comes():
    made = rig()
    stream(made, "K")
    made.session.receive(Packet(1, b"P", pts=1), client_dropped=3)
    made.session.finish()
    made.settle_all()
    made.sent += ["P", "P"]
    made.connect()
    made.give(0, "K")
    made.session.receive(Packet(1, b"P", pts=1), client_dropped=3)
    made.session.receive(Packet(2, b"P", pts=2), client_dropped=1)
    assert made.session.account.client_dropped == 4


def test_a_client_that_comes_back_hears_the_rate_that_is_still_advised():
    made = rig(policy=LIVE)
    made.session._books.hint.fps = 2.5
    flow = made.connect().flow
    assert flow is not None
    assert flow.rate_hint_fps == 2.5


def test_the_end_is_told_only_when_who_asks_finds_it_noted():
    made = rig()
    stream(made, "KP")

    class EagerListener(ToyListener):
        """Looks for news at once, as the event loop may."""

        def news(self) -> None:
            if made.hear().closing is not None:
                assert made.session.ended_wall_s is not None

    made.session._listener = EagerListener()
    made.session.finish()
    made.settle_all()
    assert made.closing is not None
