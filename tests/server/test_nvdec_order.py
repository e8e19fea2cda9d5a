"""A sequence parameter set that keeps silent is completed: FFmpeg reads of it what was put in, and what was there."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import av
import av.logging
import pytest
from av.bitstream import BitStreamFilterContext
from hypothesis import given, settings
from hypothesis import strategies as st

from support_nvdec import hardware
from support_video import RECIPES, clip, collect, truth
from vedette_server.decode.bitstream import nal
from vedette_server.decode.nvdec_order import _bits_of, _escaped, _packed, say_unordered
from vedette_server.decode.padded import padded_packet

H264 = [name for name, recipe in RECIPES.items() if recipe.encoder == "libx264" and not recipe.extradata]


def traced(data: bytes) -> dict[str, int]:
    """What FFmpeg reads of the sequence parameter set of a packet."""
    template = av.open("none", "w", format="null").add_stream("libx264")
    template.width, template.height, template.pix_fmt = 128, 96, "yuv420p"
    av.logging.set_level(av.logging.INFO)
    context = BitStreamFilterContext("trace_headers", template)
    packet = padded_packet(data)
    with av.logging.Capture() as lines:
        context.filter(packet)
    text = "".join(line for _, _, line in lines)
    start = text.index("Sequence Parameter Set")
    end = text.find("Picture Parameter Set", start)
    return {
        name: int(value)
        for name, value in re.findall(r"\d+\s+(\w+)\s+[01]+ = (-?\d+)", text[start : end if end > 0 else None])
    }


def silenced(data: bytes, *, whole: bool) -> bytes:
    """Take the restriction out of the sequence parameter sets of a packet, or the VUI as a whole."""
    units, _, _ = nal.units_of(data, 0)
    parts = []
    for first, end in units:
        unit = data[first:end]
        if unit[0] & 31 == 7:
            body = unit.rstrip(b"\0")
            bits = _bits_of(body)
            found = traced(data)
            fields = [found[name] for name in FIELDS]
            tail = "1" + str(fields[0]) + "".join(ue(value) for value in fields[1:])
            at = bits.rindex(tail)
            kept = bits[:at] + "0"
            if whole:
                kept = kept[: kept.index(vui(found), 40)] + "0"
            unit = unit[:1] + _escaped(_packed(kept))
        parts.append(b"\0\0\0\1" + unit)
    return b"".join(parts)


FIELDS = (
    "motion_vectors_over_pic_boundaries_flag",
    "max_bytes_per_pic_denom",
    "max_bits_per_mb_denom",
    "log2_max_mv_length_horizontal",
    "log2_max_mv_length_vertical",
    "max_num_reorder_frames",
    "max_dec_frame_buffering",
)


def ue(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def vui(found: dict[str, int]) -> str:
    """How x264's VUI begins: no aspect, no overscan, no signal type, no chroma place; then its timing."""
    assert found["timing_info_present_flag"] == 1
    return "1" + "00001" + f"{found['num_units_in_tick']:032b}"


def without(found: dict[str, int], names: Any) -> dict[str, int]:
    return {name: value for name, value in found.items() if name not in names}


@pytest.mark.parametrize("name", H264)
@pytest.mark.parametrize("whole", [False, True], ids=["restriction", "vui"])
def test_what_is_missing_is_put_in_and_the_rest_stays(name: str, whole: bool) -> None:
    first = clip(name).packets[0].data
    silent = silenced(first, whole=whole)
    before = traced(silent)
    assert "max_num_reorder_frames" not in before
    after = traced(say_unordered(silent))
    assert after["max_num_reorder_frames"] == 0
    assert after["max_dec_frame_buffering"] == max(before["max_num_ref_frames"], 1)
    added = {*FIELDS, "rbsp_alignment_zero_bit", "vui_parameters_present_flag", "bitstream_restriction_flag"}
    if whole:
        added |= after.keys() - before.keys()
        assert not any(after[key] for key in after if key.endswith("_present_flag") and key not in {*before, *added})
    assert without(after, added) == without(before, added)


@pytest.mark.parametrize("name", H264)
def test_what_says_enough_is_left_alone(name: str) -> None:
    first = clip(name).packets[0].data
    assert traced(say_unordered(first)) == traced(first)
    later = clip(name).packets[1].data
    assert say_unordered(later) is later


@pytest.mark.parametrize("name", ["h264", "h264-plain", "h264-refresh"])
def test_a_completed_stream_decodes_to_the_same_pictures(name: str) -> None:
    source = clip(name)
    decoder = source.decoder()
    answers = []
    for packet in source.packets:
        data = (
            silenced(packet.data, whole=True) if any(mark in packet.data for mark in (b"\0\0\1\x67",)) else packet.data
        )
        answers += decoder.decode(replace(packet, data=say_unordered(data)))
    assert collect([*answers, *decoder.flush()]).clean == truth(name)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60), head=st.sampled_from([b"", b"\x67", b"\x27\x64\0\x1f"]))
def test_any_bytes_are_taken(data: bytes, head: bytes) -> None:
    unit = b"\0\0\1" + (head or b"\x67") + data
    out = say_unordered(unit)
    assert out == say_unordered(out) or out.startswith(b"\0\0\0\1")


@settings(max_examples=100, deadline=None)
@given(payload=st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), max_size=40))
def test_escaping_is_undone_by_reading(payload: list[int]) -> None:
    raw = bytes([*payload, 0x80])
    escaped = _escaped(raw)
    assert not re.search(rb"\0\0[\0\1\2]", escaped)
    assert nal.payload(escaped, 0, len(escaped)).u(len(raw) * 8) == int.from_bytes(raw, "big")


def test_a_camera_that_says_nothing_is_decoded_without_delay_and_one_whose_times_tell_of_order_is_not_told_so() -> None:
    for name, latency in (("h264-plain", "LOW"), ("h264-plain-b", "NATIVE")):
        source = clip(name)
        packets = [
            replace(packet, data=silenced(packet.data, whole=True)) if b"\0\0\1\x67" in packet.data else packet
            for packet in source.packets
        ]
        with hardware() as gpu:
            outcome = gpu.run(source, packets)
            assert gpu.module.latencies == [latency]
            assert outcome.clean == truth(name)
            assert outcome.order == sorted(outcome.order, key=lambda number: source.packets[number].pts or 0)
