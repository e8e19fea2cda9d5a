"""Channels come, change and go while sessions stream, from many threads at once; nothing stays open behind them."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from support_channel_monitor import EPOCH_S, LABEL, LEFT, WATCH, NotingDesk, found
from support_collecting import HandWorkers, white
from support_evidence import LIMITS, store_in
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.event import EventState, Evidence
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.data.rules import EvidencePolicy, HealthConfig, Mask, MaskKind
from vedette_server.data.verdict import EngineOutcome, Verdict
from vedette_server.errors import NotFoundError, UnavailableError
from vedette_server.evidence.clip import ClipLimits
from vedette_server.evidence.collecting import EvidenceParts
from vedette_server.metrics_monitoring import MonitoringExporter, MonitoringFigures
from vedette_server.monitor.monitors import Monitors, SessionWatcher
from vedette_server.monitor.pictures import LatestPictures
from vedette_server.session.identity import Identity
from vedette_server.store.writer import WriterFigures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CONFIG = ChannelConfig(
    "gate", VideoFormat(Codec.JPEG, time_base=Fraction(1, 10)), (EngineRef("toy"),), policy=DeliveryPolicy.LIVE
)
PRIVATE = (Mask(MaskKind.PRIVACY, LEFT.vertices),)
OFFLINE = replace(WATCH, health=HealthConfig(offline_after_s=1.0))


class Park:
    """Monitors of a few channels, and sessions that stream to them."""

    def __init__(self, folder: Path | None = None, *names: str) -> None:
        self.desk = NotingDesk()
        self.now_s = EPOCH_S
        self.published: list[tuple[str, int]] = []
        self.workers = HandWorkers()
        parts = None
        if folder is not None:
            workers: Any = self.workers
            limits = ClipLimits(1.0, 1.0, 60.0)
            parts = EvidenceParts(store_in(folder), workers, limits, LIMITS, 1 << 20, lambda *_: None)
        desk: Any = self.desk
        self.monitors = Monitors(
            [ChannelRecord(name, watch=WATCH) for name in names or ("gate",)],
            desk,
            parts,
            lambda channel, _session, verdict, _index, _id: self.published.append((channel, verdict.packet.sequence)),
            clock=lambda: self.now_s,
            steady=lambda: self.now_s - EPOCH_S,
        )

    def session(self, channel: str = "gate") -> Line:
        return Line(self, channel)


class Line:
    """One session."""

    def __init__(self, park: Park, channel: str) -> None:
        self.park = park
        config = replace(CONFIG, channel=channel)
        self.watcher: SessionWatcher = park.monitors.watch(Identity(channel), config)
        self.sequence, self.at_s = 0, EPOCH_S
        self.watcher.attached(config)

    def frame(self, x: float = 0.2, shade: int = 255) -> Verdict:
        packet = Packet(
            self.sequence, white(shade), self.at_s - EPOCH_S, round(self.at_s * 1e9), self.sequence, keyframe=True
        )
        self.watcher.packet(packet)
        self.sequence += 1
        self.at_s += 0.1
        verdict = Verdict(
            packet, packet.pts, None, width=64, height=48, results=(EngineOutcome(LABEL, 1, found((x, 0.8))),)
        )
        self.watcher.judge(verdict)
        self.watcher.told(verdict, self.sequence)
        return verdict


def boxes(verdict: Verdict) -> int:
    (outcome,) = verdict.results
    assert outcome.detections is not None
    return len(outcome.detections)


def test_a_channel_that_is_made_while_it_streams_is_monitored_with_the_next_packet() -> None:
    park = Park()
    line = park.session("fresh")
    assert line.frame().packet.time_s == 0
    park.monitors.changed("fresh", ChannelRecord("fresh", watch=replace(WATCH, masks=PRIVATE)))
    verdict = line.frame()
    assert verdict.packet.time_s == pytest.approx(EPOCH_S + 0.1)
    assert boxes(verdict) == 0, "masked from the first packet on"
    assert park.published == [("fresh", 0), ("fresh", 1)]


def test_a_channel_that_is_deleted_and_made_again_goes_on_with_fresh_identities_and_no_event_open() -> None:
    park = Park()
    line = park.session()
    for _ in range(10):
        first = line.frame()
    assert park.desk.active
    park.monitors.changed("gate", None)
    assert not park.desk.active
    line.frame()
    park.monitors.changed("gate", ChannelRecord("gate", watch=WATCH))
    for _ in range(10):
        second = line.frame()
    ids = [one.results[0].detections.track_ids[0] for one in (first, second) if one.results[0].detections is not None]
    assert all(ids)
    assert ids[0] != ids[1]
    park.monitors.close()
    park.monitors.close()
    assert not park.desk.active


def test_what_comes_late_to_a_channel_that_is_forgotten_begins_nothing() -> None:
    park = Park()
    park.monitors.changed("gate", ChannelRecord("gate", watch=OFFLINE))
    line = park.session()
    for _ in range(3):
        line.frame()
    monitor = park.monitors.get("gate")
    assert monitor is not None
    park.monitors.close()
    count = len(park.desk.changes)
    for number in range(20):
        packet = Packet(
            100 + number,
            b"x",
            line.at_s + number - EPOCH_S,
            round((line.at_s + number) * 1e9),
            time_s=line.at_s + number,
        )
        monitor.packet(packet)
        outcome = EngineOutcome(LABEL, 1, found((0.2, 0.8)))
        monitor.judge(Verdict(packet, 0, None, width=64, height=48, results=(outcome,)), "s1", None)
        park.now_s = line.at_s + 60 + number
        monitor.tick(park.now_s)
    assert len(park.desk.changes) == count
    assert not park.desk.active
    park.monitors.changed("late", ChannelRecord("late"))
    assert park.monitors.all() == ()


def at_once(times: int, *jobs: Callable[[], object]) -> list[Exception]:
    """Do each job so many times, each on a thread of its own; gives what failed."""
    failures: list[Exception] = []

    def again(do: Callable[[], object]) -> None:
        try:
            for _ in range(times):
                do()
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=again, args=(do,)) for do in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return failures


def test_channels_change_come_and_go_on_many_threads_while_sessions_stream(tmp_path: Path) -> None:
    names = ("gate", "yard", "hall")
    park = Park(tmp_path, *names)
    lines = [park.session(name) for name in names]
    watches = [replace(WATCH, evidence=policy, masks=PRIVATE) for policy in EvidencePolicy]
    turns = iter(range(10**9))

    def change() -> None:
        turn = next(turns)
        name = names[turn % 3]
        park.monitors.changed(name, None if turn % 5 == 0 else ChannelRecord(name, watch=watches[turn % 7 % 3]))

    def figures() -> None:
        assert all(one.told.tracks >= 0 for one in park.monitors.all())
        park.monitors.tick()

    failures = at_once(1000, *(line.frame for line in lines), change, change, figures, park.workers.step)
    assert not failures
    park.monitors.close()
    assert not park.desk.active
    park.workers.run()
    assert not park.workers.waiting


@pytest.mark.parametrize("broken", ["health", "tracker"])
def test_whatever_fails_in_a_monitor_what_a_privacy_mask_hides_is_not_told(broken: str) -> None:
    park = Park()
    park.monitors.changed("gate", ChannelRecord("gate", watch=replace(WATCH, masks=PRIVATE)))
    line = park.session()
    monitor: Any = park.monitors.get("gate")

    def fails(*_args: object, **_more: object) -> None:
        raise RuntimeError(broken)

    if broken == "health":
        monitor._health.answer = fails
    else:
        monitor._tracker.update = fails
    packet = Packet(0, b"x", received_wall_ns=round(EPOCH_S * 1e9))
    line.watcher.packet(packet)
    verdict = Verdict(packet, 0, None, width=64, height=48, results=(EngineOutcome(LABEL, 1, found((0.2, 0.8))),))
    with pytest.raises(RuntimeError):
        line.watcher.judge(verdict)
    assert boxes(verdict) == 0


def test_a_client_whose_clock_stands_at_the_epoch_does_not_get_around_the_masks() -> None:
    park = Park()
    park.monitors.changed("gate", ChannelRecord("gate", watch=replace(WATCH, masks=PRIVATE)))
    line = park.session()
    packet = Packet(0, b"x", received_wall_ns=round(EPOCH_S * 1e9), capture_wall_ns=0)
    line.watcher.packet(packet)
    verdict = Verdict(packet, 0, None, width=64, height=48, results=(EngineOutcome(LABEL, 1, found((0.2, 0.8))),))
    line.watcher.judge(verdict)
    assert boxes(verdict) == 0


# -- the latest picture --


def shown(jpeg: bytes) -> NDArray[Any]:
    import simplejpeg  # noqa: PLC0415

    return simplejpeg.decode_jpeg(jpeg, "BGR")


def latest(park: Park, *, annotated: bool = False, width: int = 0) -> NDArray[Any]:
    return shown(LatestPictures(park.monitors, LIMITS).take("gate", annotated, width)[0])


def test_the_latest_picture_is_masked_where_the_channel_is_and_as_wide_as_is_wanted(tmp_path: Path) -> None:
    park = Park(tmp_path)
    line = park.session()
    line.frame(shade=90)
    assert latest(park).mean() == pytest.approx(90, abs=3)
    assert latest(park, width=32).shape == (24, 32, 3)
    masked = replace(WATCH, masks=PRIVATE, evidence=EvidencePolicy.MASKED)
    park.monitors.changed("gate", ChannelRecord("gate", watch=masked))
    with pytest.raises(UnavailableError, match="no picture came yet"):
        latest(park)
    line.frame()
    assert latest(park)[:, :28].max() < 16
    assert latest(park)[:, 40:].min() > 200


def test_of_a_channel_that_keeps_nothing_or_was_never_made_there_is_no_picture(tmp_path: Path) -> None:
    park = Park(tmp_path)
    line = park.session()
    line.frame()
    park.monitors.changed("gate", ChannelRecord("gate", watch=replace(WATCH, evidence=EvidencePolicy.NONE)))
    line.frame()
    for pictures in (LatestPictures(park.monitors, LIMITS), LatestPictures(Park().monitors, LIMITS)):
        with pytest.raises(UnavailableError, match="no picture may be shown"):
            pictures.take("gate", False, 0)
    with pytest.raises(NotFoundError):
        LatestPictures(park.monitors, LIMITS).take("nowhere", False, 0)


@pytest.mark.parametrize("policy", [EvidencePolicy.MASKED, EvidencePolicy.NONE])
def test_a_picture_that_was_being_taken_while_the_policy_changed_is_not_shown(
    tmp_path: Path, policy: EvidencePolicy
) -> None:
    park = Park(tmp_path)
    park.session().frame()

    class Changing(LatestPictures):
        def _decode(self, *args: Any) -> Any:
            decoded = super()._decode(*args)
            watch = replace(WATCH, masks=PRIVATE, evidence=policy)
            park.monitors.changed("gate", ChannelRecord("gate", watch=watch))
            return decoded

    with pytest.raises(UnavailableError, match="changed just now"):
        Changing(park.monitors, LIMITS).take("gate", False, 0)


def test_what_came_while_it_had_to_be_masked_is_never_shown_as_it_came(tmp_path: Path) -> None:
    park = Park(tmp_path)
    masked = replace(WATCH, masks=PRIVATE, evidence=EvidencePolicy.MASKED)
    park.monitors.changed("gate", ChannelRecord("gate", watch=masked))
    park.session().frame()
    monitor = park.monitors.get("gate")
    assert monitor is not None
    assert monitor.collector is not None
    ring = monitor.collector.ring
    clear, taken = ring.clear, []

    def asking() -> None:
        with contextlib.suppress(UnavailableError):
            taken.append(latest(park))

    def clearing() -> None:
        asker.start()
        # Long enough for one that does not wait; one that waits is let go on behind the change.
        asker.join(0.5)
        clear()

    asker = threading.Thread(target=asking)
    ring.clear = clearing  # type: ignore[method-assign]
    park.monitors.changed("gate", ChannelRecord("gate", watch=replace(masked, evidence=EvidencePolicy.ORIGINAL)))
    asker.join(20)
    assert not asker.is_alive()
    assert [picture for picture in taken if picture[:, :28].max() >= 16] == []


def test_what_another_session_saw_is_not_drawn_into_this_ones_picture(tmp_path: Path) -> None:
    park = Park(tmp_path)
    line = park.session()
    for _ in range(5):
        line.frame(shade=90)
    plain, drawn = latest(park), latest(park, annotated=True)
    assert (plain != drawn).any()
    line.watcher.ended("CLIENT_LOST")
    other = park.session()
    for _ in range(5):
        packet = Packet(other.sequence, white(90), other.sequence / 10, round(other.at_s * 1e9), keyframe=True)
        other.watcher.packet(packet)
        other.sequence += 1
    monitor = park.monitors.get("gate")
    assert monitor is not None
    assert monitor.seen is None


# -- figures --


def test_channels_that_are_deleted_have_no_series_any_more() -> None:
    park = Park(None)
    registry = CollectorRegistry()

    def figures() -> MonitoringFigures:
        told = {one.name: one.told for one in park.monitors.all()}
        return MonitoringFigures(told, {}, WriterFigures(0, 0, 0, 0, 0, 0, 0, ""))

    registry.register(MonitoringExporter(figures))
    for number in range(50):
        park.monitors.changed(f"c{number}", ChannelRecord(f"c{number}", watch=WATCH))
    assert generate_latest(registry).count(b'vedette_tracks{channel="') == 51
    for number in range(50):
        park.monitors.changed(f"c{number}", None)
    assert generate_latest(registry).count(b'channel="') == 1


def test_evidence_and_states_of_events_begin_as_they_are_told() -> None:
    park = Park()
    line = park.session()
    for _ in range(10):
        line.frame()
    line.watcher.ended("FINISHED")
    assert {event.state for event in park.desk.events} == {EventState.ENDED}
    assert {event.clip for event in park.desk.events} == {Evidence()}
