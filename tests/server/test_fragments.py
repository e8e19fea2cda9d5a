from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.v1 import stream_pb2
from vedette_server.errors import InvalidError, LimitError
from vedette_server.rpc.fragments import Assembler

LIMIT = 1000


def part(data: bytes, index: int = 0, last: int = 0, sequence: int = 5, **fields: int) -> stream_pb2.Packet:
    return stream_pb2.Packet(sequence=sequence, data=data, fragment_index=index, last_fragment=last, **fields)


def feed(assembler: Assembler, *parts: stream_pb2.Packet) -> list[tuple[bytes, int]]:
    whole = [assembler.take(one, 1.0 + number, 7) for number, one in enumerate(parts)]
    return [(found[0].data, found[1]) for found in whole if found is not None]


def test_a_whole_packet_passes():
    assert feed(Assembler(LIMIT), part(b"all", client_dropped_before=3)) == [(b"all", 3)]


@given(pieces=st.lists(st.binary(max_size=50), min_size=2, max_size=15), dropped=st.integers(0, 9))
def test_fragments_make_the_packet_that_was_cut(pieces: list[bytes], dropped: int):
    assembler = Assembler(LIMIT)
    last = len(pieces) - 1
    parts = [part(piece, index, last) for index, piece in enumerate(pieces)]
    parts[0].client_dropped_before = dropped
    assert feed(assembler, *parts) == [(b"".join(pieces), dropped)]
    assert feed(assembler, part(b"next", sequence=6)) == [(b"next", 0)]
    assert feed(assembler, part(b"a", 0, 1, sequence=7), part(b"b", 1, 1, sequence=7)) == [(b"ab", 0)]


def test_a_packet_is_there_when_its_last_byte_is():
    assembler = Assembler(LIMIT)
    assembler.take(part(b"a", 0, 1), 10.0, 100)
    whole = assembler.take(part(b"b", 1, 1), 12.0, 120)
    assert whole is not None
    assert (whole[0].received_s, whole[0].received_wall_ns) == (12.0, 120)


@pytest.mark.parametrize(
    "parts",
    [
        [part(b"b", 1, 2)],
        [part(b"a", 0, 2), part(b"c", 2, 2)],
        [part(b"a", 0, 2), part(b"a", 0, 2)],
        [part(b"a", 0, 2), part(b"b", 1, 3)],
        [part(b"a", 0, 2), part(b"b", 1, 2, sequence=6)],
        [part(b"a", 0, 2), part(b"whole", sequence=6)],
    ],
    ids=["begins late", "leaves one out", "repeats", "changes its number", "changes its packet", "is interrupted"],
)
def test_a_fragment_out_of_place_is_refused(parts: list[stream_pb2.Packet]):
    with pytest.raises(InvalidError) as caught:
        feed(Assembler(LIMIT), *parts)
    assert caught.value.reason == "FRAGMENT_OUT_OF_ORDER"


def test_a_packet_over_the_limit_is_refused_as_soon_as_it_is():
    with pytest.raises(LimitError):
        feed(Assembler(LIMIT), part(bytes(LIMIT + 1)))
    assert feed(Assembler(LIMIT), part(bytes(LIMIT))) == [(bytes(LIMIT), 0)]
    assembler = Assembler(LIMIT)
    feed(assembler, part(bytes(600), 0, 9))
    with pytest.raises(LimitError) as caught:
        feed(assembler, part(bytes(401), 1, 9))
    assert caught.value.reason == "PACKET_TOO_LARGE"


def test_many_empty_fragments_cost_no_memory():
    assembler = Assembler(LIMIT)
    tracemalloc.start()
    try:
        for index in range(5000):
            assembler.take(part(b"", index, 10_000_000), 1.0, 1)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
