"""The client's side of a session, without a network."""

from __future__ import annotations

import pytest

from support_toyvideo import FORMAT, packet, stills, video
from vedette.v1 import stream_pb2
from vedette_client.errors import AccountMismatchError, ConnectionLostError, ProtocolError
from vedette_client.options import AnalyzeOptions, Policy, StreamLimits
from vedette_client.session import Session
from vedette_client.verdicts import SkipReason


def session(policy: Policy = Policy.EVERY_FRAME, *, omit_skips: bool = False, **limits: float) -> Session:
    config = AnalyzeOptions(policy=policy, omit_skips=omit_skips).to_wire("a", FORMAT)
    return Session(config, StreamLimits(**limits))  # type: ignore[arg-type]


def accepted(
    *, restored: bool = False, next_sequence: int = 0, next_index: int = 0, credit: int | None = None
) -> stream_pb2.Accepted:
    answer = stream_pb2.Accepted(
        session="channels/a/sessions/1",
        session_token="t",
        next_sequence=next_sequence,
        next_verdict_index=next_index,
        state_restored=restored,
        keyframe_needed=not restored,
    )
    answer.heartbeat_interval.FromSeconds(4)
    if credit is not None:
        answer.flow.send_through_sequence = credit
    return answer


def opened(credit: int | None = None, **limits: float) -> Session:
    one = session(**limits)
    one.accept(accepted(credit=credit), 0.0)
    first = one.next_message(0.0, 1)
    assert first is not None
    assert first.HasField("clock_sync")
    return one


def verdicts(*pairs: tuple[int, int], flow: int | None = None) -> stream_pb2.AnalyzeStreamResponse:
    message = stream_pb2.AnalyzeStreamResponse()
    for index, sequence in pairs:
        message.verdicts.add(verdict_index=index, sequence=sequence).analysis.SetInParent()
    if flow is not None:
        message.flow.send_through_sequence = flow
    return message


def sent(one: Session, now_s: float = 0.0) -> list[stream_pb2.Packet]:
    packets: list[stream_pb2.Packet] = []
    while (message := one.next_message(now_s, 1)) is not None:
        packets += message.packets
    return packets


def test_nothing_is_sent_beyond_the_credit() -> None:
    one = opened(credit=2)
    for item in stills(5):
        one.outbox.put(item, 0.0)
    assert [p.sequence for p in sent(one)] == [0, 1, 2]
    one.take(verdicts(flow=3), 0.0, 1)
    assert [p.sequence for p in sent(one)] == [3]


def test_a_flow_message_without_a_limit_lifts_it() -> None:
    one = opened(credit=0)
    for item in stills(5):
        one.outbox.put(item, 0.0)
    sent(one)
    message = stream_pb2.AnalyzeStreamResponse()
    message.flow.rate_hint_fps = 5.0
    one.take(message, 0.0, 1)
    assert len(sent(one)) == 4


def test_verdicts_that_come_twice_are_ignored() -> None:
    one = opened()
    for item in stills(3):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0), (1, 1)), 0.0, 1)
    one.take(verdicts((0, 0), (1, 1), (2, 2)), 0.0, 1)
    assert [v.index for v in one.verdicts] == [0, 1, 2]
    assert one.account.analysed == 3
    assert one.duplicates == 2


def test_a_verdict_that_is_missing_asks_for_a_new_connection() -> None:
    one = opened()
    for item in stills(3):
        one.outbox.put(item, 0.0)
    sent(one)
    with pytest.raises(ConnectionLostError, match="verdict 1 came where 0 was due"):
        one.take(verdicts((1, 1)), 0.0, 1)


@pytest.mark.parametrize("sequence", [0, 9])
def test_a_packet_is_not_judged_twice_nor_before_it_was_sent(sequence: int) -> None:
    one = opened()
    one.outbox.put(stills(1)[0], 0.0)
    sent(one)
    one.take(verdicts((0, 0)), 0.0, 1)
    with pytest.raises(ProtocolError, match=f"judged packet {sequence}"):
        one.take(verdicts((1, sequence)), 0.0, 1)


def test_a_server_cannot_have_received_more_than_was_sent() -> None:
    one = opened()
    one.outbox.put(stills(1)[0], 0.0)
    sent(one)
    with pytest.raises(ProtocolError, match="wants packet 5 next, of 1"):
        one.accept(accepted(restored=True, next_sequence=5), 0.0)


def test_acknowledgements_travel_with_packets_or_when_they_are_due() -> None:
    one = opened(ack_every=4, ack_s=0.2)
    for item in stills(8):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0)), 1.0, 1)
    assert one.next_message(1.1, 1) is None
    late = one.next_message(1.3, 1)
    assert late is not None
    assert late.ack_verdicts.through_index == 0
    one.take(verdicts((1, 1), (2, 2), (3, 3), (4, 4)), 1.4, 1)
    many = one.next_message(1.4, 1)
    assert many is not None
    assert many.ack_verdicts.through_index == 4


def test_a_heartbeat_is_sent_only_when_nothing_else_was() -> None:
    one = opened()
    assert one.next_message(1.0, 1) is None
    beat = one.next_message(2.1, 1)
    assert beat is not None
    assert beat.HasField("heartbeat")
    assert one.next_message(2.2, 1) is None


def test_the_clock_is_asked_for_every_minute() -> None:
    one = opened()
    message = one.next_message(60.5, 1)
    assert message is not None
    assert message.HasField("clock_sync")


def test_a_resume_names_what_is_missing() -> None:
    one = opened()
    for item in stills(3):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0)), 0.0, 1)
    resume = one.opening().config.resume
    assert (resume.session_token, resume.next_verdict_index, resume.next_sequence) == ("t", 1, 3)


def test_a_server_that_kept_its_state_is_sent_only_what_it_lacks() -> None:
    one = opened()
    for item in video(groups=1):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0)), 0.0, 1)
    one.accept(accepted(restored=True, next_sequence=4, next_index=1), 0.0)
    again = sent(one)
    assert [p.sequence for p in again] == [4, 5, 6]
    assert not any(p.decode_only for p in again)


def test_a_server_that_lost_its_state_starts_at_a_keyframe() -> None:
    one = opened()
    items = video(groups=3, length=4, b_pictures=0)
    items[0].extradata = b"sps"
    for item in items:
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts(*((n, n) for n in range(6))), 0.0, 1)
    one.accept(accepted(next_sequence=12, next_index=6), 0.0)
    again = sent(one)
    assert [(p.sequence, p.decode_only) for p in again[:4]] == [(4, True), (5, True), (6, False), (7, False)]
    assert again[0].keyframe
    assert again[0].extradata == b"sps"
    assert not again[1].HasField("extradata")


def test_nothing_is_sent_again_when_every_packet_has_its_verdict_and_no_more_come() -> None:
    one = opened()
    for item in video(groups=1, length=3, b_pictures=0):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0), (1, 1), (2, 2)), 0.0, 1)
    one.finished = True
    one.accept(accepted(next_sequence=3, next_index=3), 0.0)
    assert sent(one) == []
    assert one.all_sent


def test_an_account_is_compared_since_the_server_lost_its_memory() -> None:
    one = opened()
    for item in video(groups=1, length=4, b_pictures=0):
        one.outbox.put(item, 0.0)
    sent(one)
    one.take(verdicts((0, 0), (1, 1)), 0.0, 1)
    one.accept(accepted(next_sequence=4, next_index=2), 0.0)
    sent(one)
    message = verdicts((2, 2), (3, 3))
    message.closing_account.packets_received = 2
    message.closing_account.bytes_received = len(b"2:1;") + len(b"3:2;")
    message.closing_account.analysed = 2
    one.take(message, 0.0, 1)
    assert one.totals().packets == one.totals().analysed == 4


def test_a_closing_account_with_packets_left_is_an_error() -> None:
    one = opened()
    message = stream_pb2.AnalyzeStreamResponse()
    message.closing_account.packets_pending = 1
    with pytest.raises(AccountMismatchError, match="pending: 0 here, 1 there"):
        one.take(message, 0.0, 1)


def test_a_draining_server_is_sent_nothing_more() -> None:
    one = opened()
    message = stream_pb2.AnalyzeStreamResponse()
    message.drain.endpoint = "elsewhere:1"
    one.take(message, 0.0, 1)
    one.outbox.put(stills(1)[0], 0.0)
    assert sent(one) == []
    one.accept(accepted(), 0.0)
    assert len(sent(one)) == 1


def test_giving_up_judges_what_is_open() -> None:
    one = opened(credit=1)
    for item in stills(5):
        one.outbox.put(item, 0.0)
    sent(one)
    one.give_up()
    assert [v.reason for v in one.verdicts] == [SkipReason.SESSION_LOST] * 2
    totals = one.totals()
    assert (totals.packets, totals.pending, totals.client_dropped) == (2, 0, 3)


def test_a_large_packet_travels_alone_and_in_pieces() -> None:
    one = session()
    answer = accepted()
    answer.limits.max_message_bytes = 2048
    one.accept(answer, 0.0)
    one.next_message(0.0, 1)
    for item in (packet(0, (), keyframe=True, padding=3000), packet(1, ())):
        one.outbox.put(item, 0.0)
    pieces = sent(one)
    assert [(p.sequence, p.fragment_index, p.last_fragment) for p in pieces] == [
        (0, 0, 2),
        (0, 1, 2),
        (0, 2, 2),
        (1, 0, 0),
    ]
    assert b"".join(p.data for p in pieces[:3]) == packet(0, (), padding=3000).data


def test_skips_told_before_their_verdict_are_taken_back() -> None:
    one = session(omit_skips=True)
    one.accept(accepted(), 0.0)
    for item in stills(2):
        one.outbox.put(item, 0.0)
    sent(one)
    early = stream_pb2.AnalyzeStreamResponse()
    early.flow.settled_through_sequence = 1
    one.take(early, 0.0, 1)
    one.take(verdicts((0, 1)), 0.0, 1)
    assert one.account.analysed == 1
    assert one.account.pending == 0
