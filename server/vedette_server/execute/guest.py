"""A channel's session, as engines see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.outcome import SkipReason
    from vedette_server.errors import RefusedError
    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Binding


class Guest(Protocol):
    """What engines need of a channel's session."""

    waits: ClassVar[bool]
    """Whether frames wait for what it runs: a server whose engines fail them is not well."""

    def __hash__(self) -> int: ...

    @property
    def config(self) -> ChannelConfig:
        """The configuration in effect."""
        ...

    @property
    def binding(self) -> Binding:
        """What its frames run on."""
        ...

    def rebind(self, inferences: tuple[InferenceClient, ...]) -> None:
        """Run its engines elsewhere from the next frame on."""
        ...

    def end(self, end_reason: str, skip: SkipReason, error: RefusedError | None = None) -> None:
        """End it."""
        ...
