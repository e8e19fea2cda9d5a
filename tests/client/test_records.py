"""Plain records: options, verdicts, the flow and the clock."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest

from support_toyvideo import FORMAT
from vedette.v1 import analysis_pb2, media_pb2, stream_pb2
from vedette_client.errors import OptionsError
from vedette_client.flow import ClockOffset
from vedette_client.options import AnalyzeOptions, Policy, StreamLimits, TlsOptions, channel_name, format_to_wire
from vedette_client.sources.base import SourceFormat
from vedette_client.verdicts import SkipReason, verdict_from_wire


def test_reasons_and_policies_are_numbered_as_in_the_contract() -> None:
    for reason in SkipReason:
        assert analysis_pb2.SkipReason.Name(reason.value) == f"SKIP_REASON_{reason.name}"
    assert len(SkipReason) == len(analysis_pb2.SkipReason.values()) - 1
    for policy in Policy:
        assert stream_pb2.DeliveryPolicy.Name(policy.value) == f"DELIVERY_POLICY_{policy.name}"


def test_an_unknown_reason_equals_itself_and_is_not_remembered() -> None:
    assert SkipReason(99) == SkipReason(99) == 99
    assert {SkipReason(99): 1}[SkipReason(99)] == 1
    assert 99 not in list(SkipReason)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("max_fps", 0.0, "max_fps is 0; above 0 is wanted"),
        ("max_age_s", -1.0, "max_age_s is -1; above 0"),
        ("max_age_s", float("inf"), "max_age_s is inf; above 0 and finite"),
        ("min_score", 1.1, "min_score is 1.1; at least 0 and at most 1"),
        ("iou", float("nan"), "iou is nan"),
        ("priority", 0, "priority is 0; at least 1 and at most 100"),
        ("max_detections", 1001, "max_detections is 1001"),
        ("engines", "person", "engines is 'person'"),
        ("engines", [], "engines is"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(field: str, value: object, told: str) -> None:
    with pytest.raises(OptionsError, match=told):
        AnalyzeOptions(**{field: value})  # type: ignore[arg-type]


def test_channels_are_named_bare_or_in_full() -> None:
    assert channel_name("a.b-c_1") == channel_name("channels/a.b-c_1") == "channels/a.b-c_1"
    for bad in ("", "a/b", "a b", "x" * 129):
        with pytest.raises(OptionsError, match="are allowed"):
            channel_name(bad)


def test_limits_are_above_zero() -> None:
    with pytest.raises(OptionsError, match="keep_packets is 0"):
        StreamLimits(keep_packets=0)


def test_a_certificate_comes_with_its_key() -> None:
    with pytest.raises(OptionsError, match="go together"):
        TlsOptions(certificate="c.pem")
    with pytest.raises(OptionsError, match=r"nowhere/ca.pem cannot be read"):
        TlsOptions(ca="nowhere/ca.pem").read()


def test_a_format_keeps_what_a_decoder_needs() -> None:
    video = SourceFormat(
        codec=media_pb2.CODEC_RAW,
        extradata=b"x",
        time_base=Fraction(1, 90_000),
        width=64,
        height=48,
        pixel_format=media_pb2.PIXEL_FORMAT_NV12,
        strides_bytes=(64, 64),
        rotation_degrees=90,
        sample_aspect=Fraction(4, 3),
    )
    wire = format_to_wire(video)
    assert (wire.time_base.num, wire.time_base.den) == (1, 90_000)
    assert (wire.sample_aspect.num, wire.sample_aspect.den) == (4, 3)
    assert list(wire.strides_bytes) == [64, 64]
    assert wire.rotation_degrees == 90
    assert not format_to_wire(FORMAT).HasField("sample_aspect")


def test_an_update_carries_only_what_it_names() -> None:
    update = AnalyzeOptions(max_fps=2.0, max_age_s=0.5).to_update(["max_fps", "max_age_s", "iou"])
    assert list(update.update_mask.paths) == ["max_fps", "max_age", "iou"]
    assert {field.name for field, _ in update.config.ListFields()} == {"max_fps", "max_age"}


def test_a_verdict_carries_everything_that_the_wire_has() -> None:
    wire = analysis_pb2.FrameVerdict(verdict_index=3, sequence=4, frame_pts=5, request_id="r", concealed=True)
    wire.times.receive_time.FromNanoseconds(1_500_000_000)
    wire.times.total_us = 42
    wire.picture.width, wire.picture.height, wire.picture.rotation_degrees = 100, 50, 90
    result = wire.analysis.results.add(engine="e", version="2", batch_size=8, candidates_saturated=True, backend="cpu")
    found = result.detections.add(class_id=1, label="dog", score=0.5, track_id="t")
    found.box.x_max, found.box.y_max = 0.5, 1.0
    found.attributes.add(name="colour", value="red", score=0.25)
    found.keypoints.add(name="nose").point.x = 0.5
    found.mask.width, found.mask.height = 2, 1
    found.mask.runs.extend([1, 1])
    found.embedding.extend([1.0, 2.0])
    result.classifications.add(class_id=7, label="day", score=0.75)
    second = wire.analysis.results.add(engine="f", version="1")
    second.detections.add(label="cat")

    verdict = verdict_from_wire(wire)
    assert (verdict.index, verdict.sequence, verdict.pts, verdict.request_id) == (3, 4, 5, "r")
    assert verdict.analysed
    assert verdict.concealed
    assert verdict.picture == (100, 50, 90)
    assert verdict.times is not None
    assert (verdict.times.receive_time_ns, verdict.times.capture_time_ns, verdict.times.total_us) == (
        1_500_000_000,
        None,
        42,
    )
    assert [d.label for d in verdict.detections] == ["dog", "cat"]
    dog = verdict.detections[0]
    assert dog.box_px == (0.0, 0.0, 50.0, 50.0)
    assert dog.attributes == (("colour", "red", 0.25),)
    assert dog.keypoints == (("nose", 0.5, 0.0, None),)
    assert dog.mask == (2, 1, (1, 1))
    assert dog.embedding == (1.0, 2.0)
    assert verdict.results[0].candidates_saturated
    assert verdict.results[0].classifications == ((7, "day", 0.75),)


def test_of_the_clock_samples_the_one_with_the_shortest_way_counts() -> None:
    clock = ClockOffset()
    for delay_ms, skew_ms in ((100, 40), (2, 1), (50, 20)):
        sync = stream_pb2.ClockSync()
        sync.client_send_time.FromNanoseconds(10**9)
        there = 10**9 + 3 * 10**9 + (delay_ms // 2 + skew_ms) * 10**6
        sync.server_receive_time.FromNanoseconds(there)
        sync.server_send_time.FromNanoseconds(there)
        clock.take(sync, 10**9 + delay_ms * 10**6)
    assert clock.seconds == pytest.approx(3.001)


def test_importing_the_client_pulls_in_no_runtime() -> None:
    heavy = "{'cv2', 'onnxruntime', 'av', 'PIL', 'rich', 'typer', 'structlog', 'numpy'}"
    code = f"import sys, vedette_client, vedette_client.sync; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
