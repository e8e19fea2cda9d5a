from __future__ import annotations

import dataclasses

import pytest

from support_session import EVERY_FRAME, LIVE, Rig, ToyListener, reasons, rig, stream
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import InvalidError, LimitError, UnavailableError


def test_a_stream_ends_with_its_account():
    made = rig()
    stream(made, "KPBPB")
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(5))
    assert (made.closing.analysed, made.closing.packets_pending) == (5, 0)
    assert made.overs == 1
    assert made.session.end_reason == "FINISHED"
    assert all(picture.closed for picture in made.pictures)


def test_the_end_is_told_only_when_the_client_of_this_connection_has_sent_all():
    made = rig()
    stream(made, "KP")
    made.session.finish()
    made.settle_all()
    made.connect()
    assert made.hear().closing is None
    made.session.finish()
    assert made.hear().closing is not None


def test_a_client_with_more_reopens_a_session_that_seemed_to_have_ended():
    made = rig()
    stream(made, "KP")
    made.session.finish()
    made.settle_all()
    made.sent.append("P")  # numbered, and lost on its way
    attachment = made.connect()
    assert (attachment.keyframe_needed, attachment.next_sequence) == (True, 2)
    for sequence, kind in enumerate("KPP"):
        made.give(sequence, kind)
    made.settle_all()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(3))
    assert made.closing.decode_only == 2
    assert made.overs == 2


def test_an_end_that_was_not_yet_acted_upon_is_taken_back_without_a_new_decoder():
    made = rig()
    made.send("K")
    made.session.finish()
    attachment = made.connect()
    assert not attachment.keyframe_needed
    made.send("P")
    made.settle_all()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(2))
    assert len(made.decoders) == 1


def test_a_packet_after_the_end_asks_its_client_to_reconnect():
    made = rig()
    stream(made, "K")
    made.session.finish()
    made.settle_all()
    made.connect()
    with pytest.raises(UnavailableError) as caught:
        made.send("P")
    assert caught.value.reason == "INPUT_CLOSED"
    assert made.connect().keyframe_needed


def test_what_was_not_received_is_told_again():
    made = rig()
    for kind in "KPPP":
        made.send(kind)
    made.settle_all()
    made.hear()
    made.session.acknowledge(0)
    del made.told[1:]
    made.disconnect()
    assert made.connect().next_verdict_index == 1
    made.hear()
    assert [index for index, _ in made.told] == [0, 1, 2]


def test_verdicts_that_were_acknowledged_cannot_be_asked_for():
    made = rig()
    stream(made, "KPPP")
    with pytest.raises(InvalidError) as caught:
        made.session.attach(ToyListener(), 0, 4)
    assert caught.value.reason == "RESUME_OUT_OF_RANGE"


def test_a_new_connection_displaces_the_old_one_and_survives_its_end():
    made = rig()
    old = made.listener
    assert old is not None
    made.connect()
    assert old.gone
    made.session.detach(old)
    assert made.session.connected


def test_a_decoder_that_throws_costs_what_it_held_and_is_replaced():
    made = rig()
    stream(made, "KP!PKP")
    made.session.finish()
    made.settle_all()
    made.hear()
    undecodable, lost = SkipReason.UNDECODABLE, SkipReason.LOST_REFERENCE
    assert reasons(made) == {0: None, 1: undecodable, 2: undecodable, 3: lost, 4: None, 5: None}
    assert len(made.decoders) == 2
    assert all(decoder.closed for decoder in made.decoders)
    assert all(picture.closed for picture in made.pictures)


def test_a_picture_that_is_too_large_ends_the_stream_and_its_account_closes():
    made = rig()
    for kind in "KPWP":
        made.send(kind)
    made.settle_all()
    made.hear()
    undecodable = SkipReason.UNDECODABLE
    assert reasons(made) == {0: None, 1: undecodable, 2: undecodable, 3: undecodable}
    assert made.error is not None
    assert made.error.reason == made.session.end_reason == "PICTURE_TOO_LARGE"
    assert made.closing.packets_pending == 0


def test_an_engine_that_fails_and_a_result_that_cannot_be_read_cost_their_frames():
    made = rig()
    for kind in "KPP":
        made.send(kind)
    made.session.finish()
    while len(made.scheduler.queue) != 3:
        made.work()
    made.run(error="RuntimeError: no")
    made.reader.broken = True
    made.run()
    made.reader.broken = False
    made.run()
    made.hear()
    assert reasons(made) == {0: SkipReason.ENGINE_ERROR, 1: SkipReason.ENGINE_ERROR, 2: None}
    assert "no" in made.told[0][1].detail


def test_an_end_settles_what_waits_and_waits_for_what_runs():
    made = rig()
    for kind in "KPPPP":
        made.send(kind)
    while len(made.scheduler.queue) < 2:
        made.work()
    frame = made.scheduler.queue.pop(0)
    frame.missing, frame.outcomes = 1, [None]
    made.scheduler.running.append(frame)
    made.session.end("DRAINING", SkipReason.DRAINING, UnavailableError("DRAINING", "going"))
    made.settle_all()
    assert made.hear().closing is None
    assert not made.session.over
    made.finish()
    made.hear()
    draining = SkipReason.DRAINING
    assert reasons(made) == {0: None, 1: draining, 2: draining, 3: draining, 4: draining}
    assert made.session.over
    assert made.overs == 1
    assert made.error is not None


def test_the_first_reason_to_end_is_the_one_that_counts():
    made = rig()
    made.send("K")
    made.session.end("TAKEN_OVER", SkipReason.SESSION_LOST)
    made.session.end("DRAINING", SkipReason.DRAINING)
    made.settle_all()
    assert made.session.end_reason == "TAKEN_OVER"
    assert made.session.account.skipped == {SkipReason.SESSION_LOST: 1}


def test_nothing_is_kept_for_a_client_that_will_not_come_back():
    made = rig()
    for kind in "KPP":
        made.send(kind)
    made.settle_all()
    made.disconnect()
    made.session.end("CONNECTION_LOST", SkipReason.SESSION_LOST)
    made.session.let_go()
    made.settle_all()
    assert made.session.depths == (0, 0)
    assert made.session.account.packets_pending == 0
    assert made.session.over


# -- flow ----------------------------------------------------------------------------------------------


def test_every_message_of_flow_carries_the_credits():
    """Without them it would lift the limit: so also when it only says what is settled."""
    made = rig(omit_skips=True)
    flows = []
    for kind in "KPPPPP":
        made.send(kind)
        made.settle_all()
        flows.append(made.hear().flow)
    told = [flow for flow in flows if flow is not None]
    assert any(flow.settled_through_sequence is not None for flow in told)
    assert all(flow.send_through_sequence is not None for flow in told)
    assert all(flow.send_through_bytes is not None for flow in told)


def test_what_is_settled_is_told_once_and_with_its_verdicts():
    made = rig(omit_skips=True)
    for kind in "KPPP":
        made.send(kind)
    made.settle_all()
    part = made.hear(limit=1)
    assert part.flow is None or part.flow.settled_through_sequence is None
    rest = made.hear()
    assert rest.flow is not None
    assert rest.flow.settled_through_sequence == 2
    assert made.hear().flow is None


def changed(made: Rig, **fields: object) -> None:
    config = dataclasses.replace(made.session.config, **fields)  # type: ignore[arg-type]
    made.session.update(config)


def test_a_switch_to_live_lifts_the_credits_at_once():
    made = rig()
    assert made.listener is not None
    rung = made.listener.rung
    changed(made, policy=LIVE)
    assert made.listener.rung > rung
    flow = made.hear().flow
    assert flow is not None
    assert flow.send_through_sequence is None


def test_credits_after_a_switch_count_all_bytes_of_the_connection():
    made = rig(policy=LIVE)
    stream(made, "KPPPPPPPPP")
    changed(made, policy=EVERY_FRAME)
    flow = made.hear().flow
    assert flow is not None
    assert flow.send_through_bytes is not None
    assert flow.send_through_bytes > 10 * 20
    assert flow.send_through_sequence is not None
    assert flow.send_through_sequence >= 10


def test_packets_on_their_way_at_a_switch_are_not_refused():
    made = rig(policy=LIVE)
    made.send("K")
    changed(made, policy=EVERY_FRAME)
    for _ in range(10):  # a window has 6
        made.send("P")
    made.settle_all()
    made.hear()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(11))


def test_what_no_longer_fits_at_a_switch_is_shed_as_before():
    made = rig(policy=LIVE)
    made.send("K")
    changed(made, policy=EVERY_FRAME)
    for _ in range(40):  # the inbox takes 12
        made.send("P")
    made.send("K")
    made.session.finish()
    made.settle_all()
    made.hear()
    assert len(made.told) == 42
    assert reasons(made)[41] is None
    assert set(reasons(made).values()) <= {None, SkipReason.OVERLOAD, SkipReason.LOST_REFERENCE}


def test_credits_hold_once_the_client_has_acknowledged_what_came_after_them():
    made = rig(policy=LIVE)
    stream(made, "K")
    changed(made, policy=EVERY_FRAME)
    stream(made, "PP")
    with pytest.raises(LimitError) as caught:
        for _ in range(8):
            made.send("P")
    assert caught.value.reason == "CREDIT_EXCEEDED"


def test_what_follows_a_refused_packet_does_not_pass_for_clean():
    made = rig()
    made.send("K")
    with pytest.raises(LimitError):
        for _ in range(10):
            made.send("P")
    made.settle_all()
    made.hear()
    lost = len(made.sent) - 1
    assert reasons(made)[lost] is SkipReason.OVERLOAD
    made.connect()
    made.send("P")
    made.send("K")
    made.settle_all()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made)[lost + 1] is SkipReason.LOST_REFERENCE
    assert reasons(made)[lost + 2] is None
    assert made.metrics.packets == made.closing.packets_received == len(made.sent)


def test_who_never_acknowledges_is_refused():
    made = rig(policy=LIVE)
    with pytest.raises(LimitError) as caught:
        for _ in range(200):
            made.send("K")
            made.settle_all()
            made.hear()
    assert caught.value.reason == "VERDICTS_NOT_ACKNOWLEDGED"


def test_a_picture_that_its_engine_never_gives_back_does_not_hold_up_verdicts_without_end():
    made = rig(policy=LIVE)
    for kind in "KK":
        made.send(kind)
    while not made.scheduler.queue:
        made.work()
    hung = made.scheduler.queue.pop()
    with pytest.raises(LimitError) as caught:
        for _ in range(200):
            made.send("K")
            made.settle_all()
            made.hear()
    assert caught.value.reason == "VERDICTS_HELD_UP"
    assert not made.told
    made.session.skip(hung, SkipReason.ENGINE_ERROR)
    made.hear()
    assert len(made.told) > 64


def test_an_acknowledgement_ahead_is_refused():
    made = rig()
    with pytest.raises(InvalidError):
        made.session.acknowledge(0)


def test_a_repeated_packet_is_decoded_only_and_counted_nowhere_else():
    made = rig()
    stream(made, "KP")
    made.session.finish()
    made.settle_all()
    made.sent.append("P")
    made.connect()
    for sequence, kind in enumerate("KPP"):
        made.give(sequence, kind)
    made.settle_all()
    assert made.metrics.packets == made.session.account.packets_received == 3
