"""Build what a session is made of: engines, decoder, inbox, credits, and the reader of results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.opening import Decoders
from vedette_server.decode.shedding import PacketKinds
from vedette_server.errors import InvalidError
from vedette_server.frame import Binding
from vedette_server.metrics import ChannelDepths
from vedette_server.post.reader import ResultReader
from vedette_server.session.credits import CreditWindow
from vedette_server.session.inbox import Inbox, InboxLimits
from vedette_server.session.seams import SessionParts

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import InferenceClient, LoadedInference
    from vedette_server.execute.engines import Engines
    from vedette_server.metrics import Metrics
    from vedette_server.session.identity import Identity
    from vedette_server.session.seams import Scheduler, Watcher
    from vedette_server.session.session import Session
    from vedette_server.settings import Settings
    from vedette_server.trace import Tracer


class SessionFactory:
    """Builds the parts of sessions.

    Args:
        settings: All settings.
        engines: Loads engines.
        scheduler: The pipeline.
        metrics: Gives every channel its figures.
        on_over: Called from any thread when a session is over.
        tracer: Records the way of frames; None: nobody does.
        decoders: Opens decoders; None: those of the CPU.
        open_watcher: Gives who looks at a session; None: nobody does.
    """

    def __init__(
        self,
        settings: Settings,
        engines: Engines,
        scheduler: Scheduler,
        metrics: Metrics,
        on_over: Callable[[Session], None],
        tracer: Tracer | None = None,
        decoders: Decoders | None = None,
        open_watcher: Callable[[Identity, ChannelConfig], Watcher] | None = None,
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._scheduler = scheduler
        self._metrics = metrics
        self._on_over = on_over
        self._tracer = tracer
        self._open_watcher = open_watcher
        self._decoders = decoders or Decoders(
            PictureLimits(settings.decode.max_width, settings.decode.max_height), metrics.decoders
        )

    def prepare(self, config: ChannelConfig) -> None:
        """Load a channel's engines. Blocks.

        Raises:
            NotFoundError: One does not exist, or is bad.
            EngineError: One cannot be loaded here.
        """
        self._engines.prepare(config.engines)

    def engines(self, config: ChannelConfig) -> tuple[LoadedInference, ...]:
        """Choose the versions that a channel gets, of those that were loaded.

        Raises:
            UnavailableError: One was let go of meanwhile.
        """
        return self._engines.choose(config)

    def check(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> None:
        """Refuse what the engines cannot do.

        Raises:
            InvalidError: A class that no engine knows.
        """
        known = {label for inference in inferences for label in inference.label.labels}
        unknown = sorted(set(config.classes) - known)
        if unknown:
            raise InvalidError(
                "UNKNOWN_CLASS", f"classes has {unknown[0]!r}; allowed: {', '.join(sorted(known)[:100])}"
            )

    def bind(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> Binding:
        """Put together what a channel's frames run on and are read with.

        Raises:
            InvalidError: A class that no engine knows.
        """
        self.check(config, inferences)
        return Binding(inferences, ResultReader(config, inferences))

    def parts(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> SessionParts:
        """Build the parts of one session."""
        decode, channels = self._settings.decode, self._settings.channels
        limits = InboxLimits(
            decode.inbox_packets, decode.inbox_bytes, decode.drop_disposable_after_s, decode.jump_after_s
        )

        def open_credits(next_sequence: int, waiting_packets: int, waiting_bytes: int) -> CreditWindow:
            return CreditWindow(
                channels.window_packets,
                channels.window_bytes,
                max_packet_bytes=self._settings.server.max_packet_bytes,
                next_sequence=next_sequence,
                waiting_packets=waiting_packets,
                waiting_bytes=waiting_bytes,
            )

        engine = "+".join(inference.label.name for inference in inferences)
        # Engines on the CPU know nothing of it.
        on_device = any(getattr(inference, "takes_pictures", False) for inference in inferences)
        return SessionParts(
            inferences=inferences,
            bind=self.bind,
            open_decoder=partial(self._decoders.open, config.format, on_device=on_device),
            open_inbox=partial(Inbox, limits, config.policy, PacketKinds(config.format)),
            open_credits=open_credits,
            max_unacknowledged=channels.max_unacknowledged,
            scheduler=self._scheduler,
            metrics=self._metrics.channel(config.channel, engine),
            on_over=self._on_over,
            trace=None if self._tracer is None else self._tracer.channel(config.channel),
            open_watcher=self._open_watcher,
        )

    def watch(self, session: Session) -> None:
        """Let the metrics ask for a session's depths."""

        def depths() -> ChannelDepths:
            inbox, unacknowledged = session.depths
            pending = self._scheduler.pending(session)
            return ChannelDepths(inbox=inbox, pending=pending, unacknowledged=unacknowledged)

        engine = "+".join(inference.label.name for inference in session.binding.inferences)
        self._metrics.channel(session.config.channel, engine).watch(depths)
