"""Names and secrets of sessions."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a session is.

    Attributes:
        channel: The channel's bare name.
        session: Unique among all sessions of all servers.
        token: Secret that resumes it.
        created_wall_s: When it began, seconds since the epoch.
    """

    channel: str
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    created_wall_s: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        """Resource name of the session."""
        return f"channels/{self.channel}/sessions/{self.session}"
