from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_engines.gpu.tensorrt_profiles import BatchProfile, choose_profiles, next_size, runnable_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

ranges = st.lists(st.integers(1, 24), min_size=3, max_size=3).map(lambda sizes: BatchProfile(*sorted(sizes)))
plans = st.lists(ranges, min_size=1, max_size=5)


def factor(profile: BatchProfile, size: int) -> float:
    return max(profile.best / size, size / profile.best)


@settings(max_examples=150)
@given(plans, st.data())
def test_what_a_batch_is_padded_to_is_the_nearest_size_that_runs(
    profiles: list[BatchProfile], data: st.DataObject
) -> None:
    largest = max(profile.largest for profile in profiles)
    most = data.draw(st.integers(1, largest))
    sizes = runnable_sizes(profiles, most)
    taken = [size for size in range(1, largest + 1) if any(profile.takes(size) for profile in profiles)]
    for batch in range(1, most + 1):
        padded = min(size for size in taken if size >= batch)
        assert next_size(profiles, batch) == padded
        assert padded in sizes
    # And nothing above what the largest batch needs.
    assert list(sizes) == [size for size in taken if size <= next_size(profiles, most)]


@settings(max_examples=150)
@given(plans, st.data())
def test_every_size_gets_a_profile_that_takes_it_and_none_is_tuned_nearer(
    profiles: list[BatchProfile], data: st.DataObject
) -> None:
    largest = max(profile.largest for profile in profiles)
    sizes = data.draw(st.lists(st.sampled_from(runnable_sizes(profiles, largest)), max_size=12))
    users = [0] * len(profiles)
    chosen = choose_profiles(sizes, profiles, users)
    assert [chosen.count(number) for number in range(len(profiles))] == users
    for size, number in zip(sizes, chosen, strict=True):
        assert profiles[number].takes(size)
        nearest = min(factor(profile, size) for profile in profiles if profile.takes(size))
        assert factor(profiles[number], size) == pytest.approx(nearest)


@settings(max_examples=60)
@given(ranges, st.integers(1, 4), st.data())
def test_profiles_built_several_times_are_used_alike(profile: BatchProfile, copies: int, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(profile.smallest, profile.largest), max_size=16))
    users = [0] * copies
    choose_profiles(sizes, [profile] * copies, users)
    assert max(users) - min(users) <= 1


def test_a_batch_that_no_profile_takes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no profile takes 9 rows"):
        next_size([BatchProfile(1, 4, 8)], 9)


@pytest.mark.parametrize(
    ("profiles", "size", "wanted"),
    [
        # Tuned nearest; then the narrower; then the less used.
        (((1, 1, 32), (1, 8, 32), (1, 32, 32)), 6, 1),
        (((1, 8, 32), (4, 8, 16)), 8, 1),
        (((1, 8, 8), (1, 8, 8)), 8, 1),
    ],
)
def test_the_order_of_reasons(profiles: Sequence[tuple[int, int, int]], size: int, wanted: int) -> None:
    users = [1] + [0] * (len(profiles) - 1)
    assert choose_profiles([size], [BatchProfile(*profile) for profile in profiles], users) == (wanted,)
