"""One decoded picture on its way through conversion and engines to its verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from vedette_server.data.times import StageTimes

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.packet import Packet
    from vedette_server.data.verdict import EngineOutcome
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Inference, InferenceClient, Surface
    from vedette_server.post.reader import ResultReader
    from vedette_server.tracing.events import Way


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """What a channel's frames run on and are read with; never changed, only replaced as a whole.

    A frame keeps the one that it was converted for: when a channel goes over to another version of an engine, what is
    on its way ends on the old one.

    Attributes:
        inferences: What runs the channel's engines, in the order of its configuration.
        reader: Reads their rows.
    """

    inferences: tuple[InferenceClient, ...]
    reader: ResultReader


class Channel(Protocol):
    """What the pipeline needs of a channel's session."""

    def __hash__(self) -> int: ...

    @property
    def config(self) -> ChannelConfig:
        """The configuration in effect."""
        ...

    @property
    def binding(self) -> Binding:
        """What its frames run on from now on."""
        ...

    def work(self) -> bool:
        """Do one step of decoding, on a worker; tell whether there is more to do."""
        ...

    def skip(self, frame: Frame, reason: SkipReason, detail: str = "") -> None:
        """Settle a frame that is not analysed."""
        ...

    def infer(self, frame: Frame, engine_index: int, inference: Inference) -> None:
        """Take one engine's result; settles the frame with the last of them."""
        ...


@dataclass(slots=True, eq=False)
class Frame:
    """A picture between decoder and verdict. Owned by whoever holds it in turn; never shared.

    Attributes:
        channel: The session it belongs to.
        place: Its place in the channel's presentation order.
        packet: The packet that completed it.
        picture: The picture; let go when it was converted.
        pts: Presentation time in ticks; None when unknown.
        width: Upright width of the source picture in pixels.
        height: Upright height of the source picture in pixels.
        rotation_degrees: The turn that made it upright.
        offered_s: When it began to wait for its turn, monotonic seconds.
        young: It came out of the decoder without waiting for others; a reference picture sent ahead of
            the B pictures that are shown before it has waited for them.
        binding: What runs it, from its turn on; None before.
        submitted_s: When it was converted and handed to the engines.
        times: Where its time went so far.
        outcomes: One place per engine, filled as they finish.
        missing: Engines that have not answered.
        failure: What an engine failed with; empty when none did.
        way: When it passed its engine, where a trace is written.
        kept: Its picture stays open until its verdict was looked at.
    """

    channel: Channel
    place: int
    packet: Packet
    picture: Picture
    pts: int | None
    width: int
    height: int
    rotation_degrees: int
    offered_s: float
    young: bool = True
    binding: Binding | None = None
    submitted_s: float = 0.0
    times: StageTimes = field(default_factory=StageTimes)
    outcomes: list[EngineOutcome | None] = field(default_factory=list)
    missing: int = 0
    failure: str = ""
    way: Way | None = None
    surfaces: list[Surface] = field(default_factory=list)
    kept: bool = False
