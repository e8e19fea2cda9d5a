"""What a device did when, and how much of it at the same time."""

from __future__ import annotations

from dataclasses import dataclass

UPLOAD, COMPUTE, DOWNLOAD = "upload", "compute", "download"


@dataclass(frozen=True, slots=True)
class Span:
    """One operation.

    Attributes:
        engine: `upload`, `compute` or `download`.
        stream: The stream's handle.
        label: What it was.
        start_s: When it began.
        end_s: When it was done.
    """

    engine: str
    stream: int
    label: str
    start_s: float
    end_s: float


class Timeline:
    """The operations of one device, in the order in which they were done."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def add(self, span: Span) -> None:
        """Note one."""
        self.spans.append(span)

    def busy_s(self, engine: str) -> float:
        """Tell how long one engine worked."""
        return sum(span.end_s - span.start_s for span in self.spans if span.engine == engine)

    @property
    def elapsed_s(self) -> float:
        """Tell the time from the first operation's begin to the last one's end."""
        if not self.spans:
            return 0.0
        return max(span.end_s for span in self.spans) - min(span.start_s for span in self.spans)

    def overlap(self) -> float:
        """Tell the share of the busy time in which two engines or more worked; 0 when none did.

        The busy time counts each moment once, however many engines work in it.
        """
        edges = sorted(
            [(span.start_s, 1) for span in self.spans] + [(span.end_s, -1) for span in self.spans],
        )
        busy = together = 0.0
        working, last = 0, 0.0
        for moment, change in edges:
            if working:
                busy += moment - last
            if working > 1:
                together += moment - last
            working, last = working + change, moment
        return together / busy if busy else 0.0
