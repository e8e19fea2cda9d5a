"""Which version a channel gets: exact shares, as few moves as can be, and rules for changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.engine import Route, RouteChange
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.verdict import EngineLabel
from vedette_server.errors import InvalidError, OutdatedError, StateError
from vedette_server.execute.routing import (
    REMEMBERED_S,
    Roster,
    canaries,
    changed,
    misfit,
    moved_to,
    promoted,
    rolled_back,
)

NAMES = st.text("abcdefgh0123-.", min_size=1, max_size=6)
CHANNELS = st.sets(NAMES, max_size=40)
SHARES = st.floats(0, 1)


@given(CHANNELS, SHARES)
def test_a_share_is_exact_to_one_channel(channels: set[str], share: float):
    chosen = canaries("toy", channels, share)
    assert chosen <= channels
    assert len(chosen) == math.floor(share * len(channels) + 0.5)


@given(CHANNELS, SHARES, SHARES)
def test_a_larger_share_only_adds_channels(channels: set[str], one: float, other: float):
    small, large = sorted((one, other))
    assert canaries("toy", channels, small) <= canaries("toy", channels, large)


@given(CHANNELS, NAMES, SHARES)
def test_a_channel_that_comes_or_goes_moves_at_most_one_other(channels: set[str], name: str, share: float):
    without, within = channels - {name}, channels | {name}
    moved = canaries("toy", without, share) ^ canaries("toy", within, share)
    assert len(moved - {name}) <= 1


@given(CHANNELS, SHARES)
def test_the_choice_depends_on_nothing_but_names(channels: set[str], share: float):
    backwards = sorted(channels, reverse=True)
    assert canaries("toy", channels, share) == canaries("toy", backwards, share)


def test_another_engine_tries_its_canary_on_other_channels():
    channels = [f"cam-{number}" for number in range(100)]
    assert canaries("toy", channels, 0.5) != canaries("other", channels, 0.5)


def test_a_channel_counts_for_a_while_after_it_has_gone():
    roster = Roster()
    roster.join("a")
    roster.join("a")
    roster.leave("a", 100.0)
    assert (roster.channels, roster.seen_s) == ({"a"}, {})
    roster.leave("a", 110.0)
    assert roster.seen_s == {"a": 110.0}
    assert not roster.forget(110.0 + REMEMBERED_S)
    assert roster.channels == {"a"}
    assert roster.forget(111.0 + REMEMBERED_S)
    assert roster.channels == frozenset()


def test_a_channel_that_comes_back_is_here_and_not_away():
    roster = Roster(seen_s={"a": 5.0, "b": 6.0})
    roster.join("a")
    assert (roster.here, roster.seen_s) == ({"a": 1}, {"b": 6.0})
    assert roster.as_seen(20.0) == {"a": 20.0, "b": 6.0}


ROUTE = Route("toy", stable="2", previous=("1",), revision=7)


def test_a_stable_version_that_is_named_ends_the_following_and_the_newest_begins_it_again():
    route = changed(ROUTE, RouteChange(stable="1"), newest="")
    assert (route.stable, route.follows, route.previous, route.revision) == ("1", False, ("2",), 8)
    route = changed(route, RouteChange(stable=""), newest="3")
    assert (route.stable, route.follows, route.previous) == ("3", True, ("1", "2"))


def test_a_trial_that_ends_without_promotion_ends_the_following():
    """To go on following would be to take the very version that was tried and not taken."""
    route = changed(ROUTE, RouteChange(canary="3", canary_share=0.1), newest="")
    assert route.follows
    route = changed(route, RouteChange(canary=""), newest="")
    assert (route.canary, route.canary_share, route.follows) == ("", 0.0, False)


def test_a_share_alone_changes_the_canary_that_there_is():
    route = changed(ROUTE, RouteChange(canary="3", canary_share=0.1), newest="")
    assert changed(route, RouteChange(canary_share=0.5), newest="").canary_share == 0.5
    with pytest.raises(InvalidError, match="without a canary"):
        changed(ROUTE, RouteChange(canary_share=0.5), newest="")


def test_the_canary_that_is_made_stable_is_on_trial_no_more():
    route = changed(ROUTE, RouteChange(canary="3", canary_share=0.1), newest="")
    route = changed(route, RouteChange(stable="3"), newest="")
    assert (route.stable, route.canary, route.canary_share) == ("3", "", 0.0)


@pytest.mark.parametrize(
    "change",
    [
        RouteChange(canary="2"),
        RouteChange(shadow="2"),
        RouteChange(canary="3", canary_share=1.5),
        RouteChange(canary="3", canary_share=-0.1),
        RouteChange(stable="3", canary="3"),
        RouteChange(canary="3", shadow="3"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: RouteChange):
    with pytest.raises(InvalidError):
        changed(ROUTE, change, newest="")


def test_a_change_for_another_revision_is_refused():
    with pytest.raises(OutdatedError, match="revision 7, not 6"):
        changed(ROUTE, RouteChange(stable="1", revision=6), newest="")


def test_the_canary_is_promoted_before_the_shadow_and_without_either_nothing():
    tried = replace(ROUTE, canary="3", canary_share=0.1, shadow="4")
    new = promoted(tried, "4")
    assert new.stable == "3"
    assert promoted(replace(tried, canary="", canary_share=0.0), "4").stable == "4"
    assert (new.canary, new.shadow, new.revision) == ("", "", 8)
    with pytest.raises(StateError) as caught:
        promoted(ROUTE, "4")
    assert caught.value.reason == "NOTHING_TO_PROMOTE"


def test_a_route_follows_no_more_when_another_than_the_newest_is_promoted():
    following = replace(ROUTE, follows=True, canary="3", canary_share=0.1)
    assert not promoted(following, "4").follows, "4 would take the place of 3 at once"
    assert promoted(following, "3").follows
    assert not promoted(replace(following, follows=False), "3").follows


def test_a_roll_back_forgets_the_version_it_goes_back_from():
    route = rolled_back(replace(ROUTE, canary="3", canary_share=0.1), "1", follows=True)
    assert (route.stable, route.previous, route.canary, route.revision) == ("1", (), "", 8)


def test_what_was_stable_is_remembered_once_and_not_for_ever():
    route = Route("toy")
    for number in range(40):
        route = moved_to(route, str(number % 20))
    assert len(route.previous) == len(set(route.previous)) == 16


def test_a_channel_stays_with_its_version_when_the_other_lacks_what_it_asks_for():
    old = EngineLabel("toy", "1", "cpu", "detector", ("car", "person"))
    config = ChannelConfig("a", VideoFormat(Codec.H264), (EngineRef("toy"),), classes=("person", "of another engine"))
    assert misfit(config, old, replace(old, version="2", labels=("person",))) == ""
    assert "no class person" in misfit(config, old, replace(old, version="2", labels=("car",)))
    assert "is a classifier" in misfit(config, old, replace(old, version="2", task="classifier"))
