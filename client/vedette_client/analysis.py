"""A source on its way through a stream: what a caller of `Client.start` holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from vedette_client.feed import Feed

if TYPE_CHECKING:
    from types import TracebackType

    from vedette_client.sources.base import Source
    from vedette_client.stream import Stream
    from vedette_client.verdicts import Verdict


class Analysis:
    """Iterates over the verdicts of a source, which is sent meanwhile; belongs to one event loop.

    Args:
        source: An opened source; closed together with this.
        stream: An accepted stream; closed together with this.

    Attributes:
        source: The source.
        stream: The stream: flow, account, clock, settings.
    """

    def __init__(self, source: Source, stream: Stream) -> None:
        self.source = source
        self.stream = stream
        self._feed = Feed(source, stream)

    async def read(self) -> list[Verdict]:
        """Take all verdicts that wait, at least one; an empty list says that every packet has its verdict.

        Raises:
            SourceError: The source failed half-way; what it gave before has its verdicts.
            ClientError: What else ended the stream.
        """
        verdicts = await self.stream.read()
        if not verdicts:
            self._feed.raise_failure()
        return verdicts

    async def close(self) -> None:
        """End the stream and close the source at once; may be called twice."""
        await self._feed.close()
        await self.stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Verdict:
        try:
            return await anext(self.stream)
        except StopAsyncIteration:
            self._feed.raise_failure()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
