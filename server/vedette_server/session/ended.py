"""What is remembered of a session that nobody can resume any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from vedette_server.session.accounts import AccountSnapshot
    from vedette_server.session.identity import Identity
    from vedette_server.session.session import Session


@dataclass(frozen=True, slots=True)
class EndedSession:
    """The account of a session, without what it took to make it.

    Attributes:
        identity: Its names.
        account: Its totals.
        ended_wall_s: When it was over, seconds since the epoch.
        end_reason: Why it ended, UPPER_SNAKE.
    """

    identity: Identity
    account: AccountSnapshot
    ended_wall_s: float | None
    end_reason: str

    @property
    def over(self) -> bool:
        """Whether every packet has its verdict."""
        return True

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return False

    @classmethod
    def of(cls, session: Session) -> Self:
        """Take down what is worth remembering."""
        return cls(session.identity, session.account, session.ended_wall_s, session.end_reason)
