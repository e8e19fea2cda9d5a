"""What calls cameras: a server without its edge, its catalogue in memory, its decoders noting what they are fed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from support_sources import write_clip
from support_streams import publish_gauge
from vedette_server.data.channel import ChannelRecord, SourceConfig, SourceStream
from vedette_server.data.config import DeliveryPolicy, EngineRef
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.opening import Decoders
from vedette_server.execute.engines import Engines
from vedette_server.execute.opener import GpuOpener
from vedette_server.metrics import Metrics
from vedette_server.pipeline import Pipeline
from vedette_server.pull.options import PullOptions
from vedette_server.pull.puller import Puller
from vedette_server.pull.status import PullState
from vedette_server.session.factory import SessionFactory
from vedette_server.session.registry import Registry
from vedette_server.settings import EngineSettings, MetricsSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoded, Decoder
    from vedette_server.session.seams import SessionParts
    from vedette_server.session.session import Session

LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME
WAIT_S = 20.0
CONNECTING, STREAMING, WAITING, FINISHED = PullState


def material(folder: Path) -> Path:
    """Write clips into a folder; an engine comes beside them."""
    write_clip(folder / "clip.mp4")
    write_clip(folder / "short.mp4", frames=8, fps=40)
    write_clip(folder / "long.ts", frames=400, bframes=0)
    return folder


def state(server: Stack, name: str) -> PullState | None:
    status = server.puller.status(name)
    return None if status is None else status.state


def detail(server: Stack, name: str) -> str:
    status = server.puller.status(name)
    return "" if status is None else status.detail


def breaks(packets: list[Packet]) -> list[int]:
    return [index for index, packet in enumerate(packets) if packet.discontinuity]


def rising(packets: list[Packet]) -> bool:
    stamps = [packet.dts for packet in packets if packet.dts is not None]
    return stamps == sorted(set(stamps))


def pull_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pull-")]


class FakeCatalogue:
    """Channels in memory."""

    def __init__(self, records: Sequence[ChannelRecord] = ()) -> None:
        self._records = {record.name: record for record in records}
        self._listeners: list[Callable[[str, ChannelRecord | None], None]] = []

    def records(self) -> tuple[ChannelRecord, ...]:
        return tuple(self._records.values())

    def listen(self, callback: Callable[[str, ChannelRecord | None], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def put(self, record: ChannelRecord) -> None:
        self._records[record.name] = record
        for listener in tuple(self._listeners):
            listener(record.name, record)

    def delete(self, name: str) -> None:
        del self._records[name]
        for listener in tuple(self._listeners):
            listener(name, None)


def record(name: str, url: str, *, engine: str = "gauge", policy: DeliveryPolicy = LIVE, **more: Any) -> ChannelRecord:
    stream = SourceStream((EngineRef(engine),), policy=policy, **more.pop("stream", {}))
    return ChannelRecord(name, source=SourceConfig(url, stream, **more))


class RecordingDecoder:
    """Notes the packets that a decoder is fed."""

    def __init__(self, inner: Decoder, fed: list[Packet]) -> None:
        self._inner = inner
        self._fed = fed

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        self._fed.append(replace(packet))
        return self._inner.decode(packet)

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        self._fed.append(replace(packet))
        return self._inner.drop(packet, reason)

    def flush(self) -> Sequence[Decoded]:
        return self._inner.flush()

    def close(self) -> None:
        self._inner.close()


class NotingFactory(SessionFactory):
    """Builds sessions whose decoders note what they are fed, and remembers their configurations."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.configs: list[ChannelConfig] = []
        self.fed: dict[str, list[Packet]] = {}

    def parts(self, config: ChannelConfig, inferences: Any) -> SessionParts:
        parts = super().parts(config, inferences)
        self.configs.append(config)
        fed = self.fed.setdefault(config.channel, [])
        return replace(parts, open_decoder=lambda: RecordingDecoder(parts.open_decoder(), fed))


@dataclass
class Stack:
    """A server without its edge: registry, sessions, pipeline, engines, and the puller."""

    puller: Puller
    registry: Registry
    factory: NotingFactory
    catalogue: FakeCatalogue
    options: PullOptions

    def session(self, name: str) -> Session:
        """The channel's latest session."""
        found: Any = self.registry.get(name, "-")
        return found

    def sessions(self, name: str) -> int:
        return sum(session.identity.channel == name for session in self.registry.all())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            told = {name: self.puller.status(name) for name in tuple(self.puller._wanted)}
            assert time.monotonic() < deadline, (told, {name: len(fed) for name, fed in self.factory.fed.items()})
            await asyncio.sleep(0.01)

    async def fed(self, name: str, count: int) -> list[Packet]:
        """Wait until so many packets came to the channel's decoders; return them all."""
        await self.until(lambda: len(self.factory.fed.get(name, ())) >= count)
        return list(self.factory.fed[name])


OPTIONS = PullOptions(
    timeout_s=10.0, first_wait_s=0.05, longest_wait_s=0.2, good_stretch_s=30.0, hosts=("127.0.0.0/8",)
)


@contextlib.asynccontextmanager
async def stack(
    root: Path, *records: ChannelRecord, resume_window_s: float = 30.0, **options: Any
) -> AsyncIterator[Stack]:
    """Run everything behind the edge, with an engine that tells the brightness."""
    loop = asyncio.get_running_loop()
    bundles = root / "bundles"
    if not bundles.exists():
        publish_gauge(bundles)
    settings = Settings(
        engines=EngineSettings(dirs=(bundles,), lanes=1, max_batch=4, tune_budget_s=0),
        metrics=MetricsSettings(port="off"),
    )
    with contextlib.ExitStack() as closing:
        metrics = closing.enter_context(Metrics(settings.metrics))
        pipeline = Pipeline(1, settings.decode.pending_pictures)
        closing.callback(pipeline.close)
        engines = Engines(
            settings.engines, metrics, pipeline, lambda: None, opener=GpuOpener(settings.engines.cuda_library)
        )
        closing.callback(engines.close)
        closing.callback(pipeline.close)
        decoders = Decoders(PictureLimits(4096, 2160), metrics.decoders)

        def over(session: Session) -> None:
            loop.call_soon_threadsafe(registry.over, session)

        factory = NotingFactory(settings, engines, pipeline, metrics, on_over=over, decoders=decoders)

        def taken(session: Session) -> None:
            engines.join(session)
            pipeline.add(session)
            factory.watch(session)

        def gone(session: Session, free: bool) -> None:
            pipeline.remove(session)
            engines.leave(session)
            if free:
                metrics.forget(session.identity.channel)

        registry = Registry(16, resume_window_s, on_taken=taken, on_gone=gone)
        catalogue = FakeCatalogue(records)
        pull_options = replace(OPTIONS, **({"folders": (root,)} | options))
        puller = Puller(catalogue, registry, factory, loop, pull_options)
        puller.start()
        try:
            yield Stack(puller, registry, factory, catalogue, pull_options)
        finally:
            if not puller._closing:
                await puller.close(10.0)
