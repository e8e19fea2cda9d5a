"""Which version of an engine a channel gets: pure rules, no threads, no clock of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from vedette_server.errors import InvalidError, OutdatedError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.engine import Route, RouteChange
    from vedette_server.data.verdict import EngineLabel

# A channel that was seen so lately counts among those that a canary gets its share of.
REMEMBERED_S = 15 * 60.0
MOST_PREVIOUS = 16


def canaries(engine: str, channels: Iterable[str], share: float) -> frozenset[str]:
    """Choose the channels that run the canary: exactly the share, to one channel.

    They are ranked by a hash of engine and channel, so that every server chooses alike, a larger share only adds
    channels, and a channel that comes or goes makes at most one other change over.

    Args:
        engine: The engine's name.
        channels: All channels that the route holds for.
        share: 0..1; of C channels C * share are chosen, half rounded up.
    """
    known = set(channels)
    count = math.floor(share * len(known) + 0.5)
    return frozenset(sorted(known, key=lambda channel: _rank(engine, channel))[:count])


def _rank(engine: str, channel: str) -> tuple[bytes, str]:
    return blake2b(f"{engine}\0{channel}".encode(), digest_size=8).digest(), channel


@dataclass(slots=True)
class Roster:
    """The channels that a route holds for: those here now, and those that were here lately.

    Attributes:
        here: Sessions by channel.
        seen_s: When a channel that is not here was here last, seconds since the epoch.
    """

    here: dict[str, int] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.here) | frozenset(self.seen_s)

    def join(self, channel: str) -> None:
        """Take note of a session of the channel."""
        self.here[channel] = self.here.get(channel, 0) + 1
        self.seen_s.pop(channel, None)

    def leave(self, channel: str, now_s: float) -> None:
        """Take note that a session of the channel is gone."""
        left = self.here.get(channel, 0) - 1
        if left > 0:
            self.here[channel] = left
        elif self.here.pop(channel, None) is not None:
            self.seen_s[channel] = now_s

    def forget(self, now_s: float) -> bool:
        """Forget who has been away for long; return whether anybody was forgotten."""
        old = [channel for channel, seen_s in self.seen_s.items() if now_s - seen_s > REMEMBERED_S]
        for channel in old:
            del self.seen_s[channel]
        return bool(old)

    def as_seen(self, now_s: float) -> dict[str, float]:
        """Tell when each was here last, for those who start with nobody here."""
        return self.seen_s | dict.fromkeys(self.here, now_s)


def misfit(config: ChannelConfig, old: EngineLabel, new: EngineLabel) -> str:
    """Tell why a channel that runs one version cannot go over to another; empty: it can."""
    if new.task != old.task:
        return f"version {new.version} is a {new.task}, and {old.version} a {old.task}"
    lost = [label for label in config.classes if label in old.labels and label not in new.labels]
    if lost:
        return f"version {new.version} has no class {', '.join(lost[:5])}, which the channel asks for"
    return ""


def moved_to(route: Route, stable: str) -> Route:
    """Give a route another stable version; the one before it is remembered."""
    if stable == route.stable:
        return route
    previous = tuple(version for version in (route.stable, *route.previous) if version not in {"", stable})
    return replace(route, stable=stable, previous=previous[:MOST_PREVIOUS])


def check_revision(route: Route, change: RouteChange) -> None:
    """Make sure that a change is made for the route in effect.

    Raises:
        OutdatedError: It was made for another revision.
    """
    if change.revision is not None and change.revision != route.revision:
        raise OutdatedError(
            "ROUTE_CHANGED", f"the route of {route.name} has revision {route.revision}, not {change.revision}"
        )


def changed(route: Route, change: RouteChange, newest: str) -> Route:
    """Apply a change, with the next revision.

    Args:
        route: The route in effect.
        change: What is asked for.
        newest: The newest version that may be taken.

    Raises:
        OutdatedError: The change was made for another revision.
        InvalidError: The parts contradict each other.
    """
    check_revision(route, change)
    new = route
    if change.stable is not None:
        new = replace(moved_to(new, change.stable or newest), follows=not change.stable)
    new = _with_trials(new, change)
    _check(new, change)
    if change.stable is None:
        new = replace(new, follows=new.follows and not _ended_trial(route, new))
    return replace(new, revision=route.revision + 1)


def _with_trials(route: Route, change: RouteChange) -> Route:
    """Apply what a change says of canary and shadow; a version that has become stable is on trial no more."""
    canary = route.canary if change.canary is None else change.canary
    if change.canary is None and canary == route.stable:
        canary = ""
    share = change.canary_share
    if share is None:
        share = route.canary_share if canary else 0.0
    shadow = route.shadow if change.shadow is None else change.shadow
    if change.shadow is None and shadow == route.stable:
        shadow = ""
    return replace(route, canary=canary, canary_share=share, shadow=shadow)


def promoted(route: Route, newest: str) -> Route:
    """Make the version on trial the stable one.

    Args:
        route: The route in effect.
        newest: The newest good version; where another one is promoted the route follows no more, else that one would
            take its place at once.

    Raises:
        StateError: There is none.
    """
    trial = route.canary or route.shadow
    if not trial:
        raise StateError("NOTHING_TO_PROMOTE", f"engine {route.name} has neither a canary nor a shadow")
    return replace(
        moved_to(route, trial),
        follows=route.follows and trial == newest,
        canary="",
        canary_share=0.0,
        shadow="",
        revision=route.revision + 1,
    )


def rolled_back(route: Route, to: str, *, follows: bool) -> Route:
    """Go back to a version and forget the one that was stable."""
    previous = tuple(version for version in route.previous if version not in {to, route.stable})
    return replace(
        route,
        stable=to,
        follows=follows,
        canary="",
        canary_share=0.0,
        shadow="",
        previous=previous,
        revision=route.revision + 1,
    )


def _check(new: Route, change: RouteChange) -> None:
    if not 0.0 <= new.canary_share <= 1.0:
        raise InvalidError("INVALID_SHARE", f"canary_share is {new.canary_share:g}; allowed: 0 to 1")
    if new.canary_share and not new.canary:
        raise InvalidError("INVALID_SHARE", f"canary_share is {new.canary_share:g} without a canary; name its version")
    if change.canary and new.canary == new.stable:
        raise InvalidError("INVALID_CANARY", f"canary is {new.canary}, which is the stable version already")
    if new.shadow and new.shadow == new.canary:
        raise InvalidError("INVALID_SHADOW", f"shadow is {new.shadow}, which is the canary: channels run it")
    if change.shadow and new.shadow == new.stable:
        raise InvalidError("INVALID_SHADOW", f"shadow is {new.shadow}, which is the stable version already")


def _ended_trial(old: Route, new: Route) -> bool:
    """Whether a trial ended without its version becoming stable: to follow on would be to take just that one."""
    ended = {old.canary, old.shadow} - {new.canary, new.shadow, new.stable, ""}
    return bool(ended)
