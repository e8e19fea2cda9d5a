from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vedette_server.data.outcome import SkipReason
from vedette_server.data.times import StageTimes
from vedette_server.errors import SettingsError
from vedette_server.metrics import ChannelDepths, EngineDepths, Metrics
from vedette_server.metrics_figures import AGE_BUCKETS_S, STAGES
from vedette_server.settings import MetricsSettings

SILENT = MetricsSettings(port="off", forget_after_s=60)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series_of(metrics: Metrics, channel: str) -> int:
    return sum(
        sample.labels.get("channel") == channel for family in metrics.registry.collect() for sample in family.samples
    )


def test_prometheus_reads_the_page_on_its_own_port():
    with Metrics(MetricsSettings(port=0)) as metrics:
        metrics.channel('ga"te\n', "person").packet(10)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10) as page:
            text = page.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    [sample] = [sample for sample in families["vedette_packets"].samples if sample.name.endswith("_total")]
    assert (sample.labels, sample.value) == ({"channel": 'ga"te\n', "engine": "person"}, 1)
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["process_cpu_seconds"].samples[0].value > 0
    assert all(family.documentation for family in families.values())


def test_after_the_close_nobody_listens():
    metrics = Metrics(MetricsSettings(port=0))
    port = metrics.port
    metrics.close()
    metrics.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


def test_a_taken_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"metrics\.port is {port} on 127\.0\.0\.1, .* in use"):
            Metrics(MetricsSettings(port=port))


events = st.one_of(
    st.tuples(st.just("packet"), st.integers(0, 10**6)),
    st.tuples(st.just("picture"), st.integers(1, 3)),
    st.tuples(st.just("verdict"), st.none() | st.sampled_from(SkipReason)),
)


@given(st.lists(st.tuples(st.sampled_from("ab"), events), max_size=60))
@settings(max_examples=40, deadline=None)
def test_the_page_agrees_with_what_was_counted(history):
    metrics = Metrics(SILENT)
    channels = {name: metrics.channel(name, "person") for name in "ab"}
    for name, (kind, detail) in history:
        if kind == "packet":
            channels[name].packet(detail)
        elif kind == "picture":
            channels[name].picture(detail)
        else:
            channels[name].verdict(detail, StageTimes(total_s=0.3))
    for name in "ab":
        labels = {"channel": name, "engine": "person"}
        mine = [event for whose, event in history if whose == name]
        packets = [size for kind, size in mine if kind == "packet"]
        reasons = [reason for kind, reason in mine if kind == "verdict"]
        assert value(metrics, "vedette_packets_total", **labels) == len(packets)
        assert value(metrics, "vedette_packet_bytes_total", **labels) == sum(packets)
        assert value(metrics, "vedette_pictures_decoded_total", **labels) == sum(
            n for kind, n in mine if kind == "picture"
        )
        analysed = value(metrics, "vedette_verdicts_total", **labels, outcome="analysed", reason="")
        assert analysed == reasons.count(None)
        for reason in SkipReason:
            told = value(metrics, "vedette_verdicts_total", **labels, outcome="skipped", reason=reason.name)
            assert (told or 0) == reasons.count(reason)
        broken = reasons.count(SkipReason.UNDECODABLE) + reasons.count(SkipReason.LOST_REFERENCE)
        assert value(metrics, "vedette_decode_errors_total", **labels) == broken
        assert value(metrics, "vedette_age_at_verdict_seconds_count", **labels) == reasons.count(None)


@given(st.lists(st.floats(0, 30), max_size=30))
@settings(max_examples=40, deadline=None)
def test_each_bucket_holds_the_ages_up_to_its_bound(ages):
    metrics = Metrics(SILENT)
    channel = metrics.channel("gate", "person")
    for age in ages:
        channel.verdict(None, StageTimes(total_s=age))
    labels = {"channel": "gate", "engine": "person"}
    for bound in AGE_BUCKETS_S:
        told = value(metrics, "vedette_age_at_verdict_seconds_bucket", **labels, le=str(bound))
        assert told == sum(age <= bound for age in ages)
    assert value(metrics, "vedette_age_at_verdict_seconds_bucket", **labels, le="+Inf") == len(ages)
    assert value(metrics, "vedette_age_at_verdict_seconds_sum", **labels) == pytest.approx(sum(ages))


def test_stage_times_are_told_per_channel_as_sums_and_per_engine_as_histograms():
    metrics = Metrics(SILENT)
    times = StageTimes(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, total_s=2.8)
    for name in ("a", "b"):
        metrics.channel(name, "person").verdict(None, times)
    for number, stage in enumerate(STAGES, 1):
        told = value(metrics, "vedette_channel_stage_seconds_total", channel="a", engine="person", stage=stage)
        assert told == pytest.approx(number / 10)
        assert value(metrics, "vedette_stage_seconds_count", engine="person", stage=stage) == 2
        assert value(metrics, "vedette_stage_seconds_sum", engine="person", stage=stage) == pytest.approx(number / 5)


def test_an_engine_tells_its_batches_and_how_busy_its_lanes_were():
    metrics = Metrics(SILENT)
    engine = metrics.engine("person", "1")
    assert metrics.engine("person", "1") is engine
    engine.watch(lambda: EngineDepths(ready=3, slots_in_use=5, slots=8, lanes=2))
    engine.batch(4, 0.25)
    engine.batch(1, 0.5, failed=True)
    labels = {"engine": "person", "version": "1"}
    assert value(metrics, "vedette_batch_size_sum", **labels) == 5
    assert value(metrics, "vedette_batch_size_bucket", **labels, le="2.0") == 1
    assert value(metrics, "vedette_lane_busy_seconds_total", **labels) == 0.75
    assert value(metrics, "vedette_engine_failures_total", **labels) == 1
    gauges = [
        value(metrics, f"vedette_{name}", **labels) for name in ("ready_frames", "slots_in_use", "slots", "lanes")
    ]
    assert gauges == [3, 5, 8, 2]
    engine.watch(None)
    assert value(metrics, "vedette_lanes", **labels) is None
    assert value(metrics, "vedette_batch_size_sum", **labels) == 5


def test_depths_are_asked_for_when_prometheus_asks():
    metrics = Metrics(SILENT)
    depths = [ChannelDepths(1, 2, 3)]
    metrics.channel("gate", "person").watch(lambda: depths[-1])
    labels = {"channel": "gate", "engine": "person"}
    assert value(metrics, "vedette_inbox_packets", **labels) == 1
    depths.append(ChannelDepths(7, 8, 9))
    assert value(metrics, "vedette_inbox_packets", **labels) == 7
    assert value(metrics, "vedette_pending_pictures", **labels) == 8
    assert value(metrics, "vedette_unacknowledged_verdicts", **labels) == 9


def test_depths_that_fail_spoil_nothing_else():
    metrics = Metrics(SILENT)
    metrics.channel("gate", "person").watch(lambda: ChannelDepths(*[1 // 0]))
    assert value(metrics, "vedette_inbox_packets", channel="gate", engine="person") == 0
    assert value(metrics, "vedette_channels") == 1


def test_an_ended_channel_is_told_for_a_while_and_then_forgotten():
    clock = Clock()
    metrics = Metrics(SILENT, clock)
    metrics.channel("gate", "person").verdict(None, StageTimes(decode_s=0.5))
    metrics.forget("gate")
    assert value(metrics, "vedette_channels") == 0
    assert value(metrics, "vedette_inbox_packets", channel="gate", engine="person") is None
    clock.now_s += 59
    assert series_of(metrics, "gate") > 0
    clock.now_s += 2
    assert series_of(metrics, "gate") == 0
    # What was summed up per engine does not fall.
    assert value(metrics, "vedette_stage_seconds_sum", engine="person", stage="decode") == 0.5


def test_a_channel_that_comes_back_in_time_counts_on():
    clock = Clock()
    metrics = Metrics(SILENT, clock)
    first = metrics.channel("gate", "person")
    metrics.forget("gate")
    clock.now_s += 30
    assert metrics.channel("gate", "person") is first
    clock.now_s += 1000
    assert series_of(metrics, "gate") > 0


def test_a_thousand_ended_channels_too_many_go_before_their_time():
    metrics = Metrics(SILENT)
    for number in range(2000):
        metrics.channel(f"c{number}", "person")
        metrics.forget(f"c{number}")
    assert len(metrics.snapshot().channels) == 1024
    assert metrics.snapshot().channels[-1].channel == "c1999"


def test_refused_calls_are_counted_by_reason():
    metrics = Metrics(SILENT)
    for reason in ("UNKNOWN_CODEC", "NO_TOKEN", "NO_TOKEN"):
        metrics.refused(reason)
    assert value(metrics, "vedette_calls_refused_total", reason="NO_TOKEN") == 2
