"""Camera health by what is seen: each fault made from synthetic scenes is told, and what is no fault is not."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from support_faults import (
    FPS,
    HEIGHT,
    PICTURE_FAULTS,
    START_S,
    WIDTH,
    Place,
    begun,
    busy,
    covered,
    dark,
    defocused,
    frozen,
    frozen_with_clock,
    moved,
    noisy,
    still,
    walker,
    watch,
)
from support_pictures import asset
from vedette_server.data.event import EventKind, EventState
from vedette_server.data.rules import HealthConfig
from vedette_server.monitor.health.camera import CameraHealth
from vedette_server.monitor.luma import luma_of_array

K = 60
FAULT_S = K / FPS


@pytest.fixture(scope="module")
def still_film():
    return still(K + 40)


@pytest.fixture(scope="module")
def busy_film():
    return busy(K + 40, seed=3)


@pytest.mark.parametrize("kind", PICTURE_FAULTS)
@pytest.mark.parametrize("scene", ["still_film", "busy_film"])
def test_each_fault_of_the_picture_is_told_once_and_nothing_else(kind, scene, request):
    film = request.getfixturevalue(scene)
    told = watch(PICTURE_FAULTS[kind](film, K, 2))
    assert begun(told) == {kind: pytest.approx(FAULT_S, abs=1.0)}
    assert len({event.event_id for event in told}) == 1
    assert all(event.state is EventState.ACTIVE and event.rule == "camera" and event.detail for event in told)


def test_a_clock_that_runs_on_does_not_hide_a_frozen_picture(busy_film):
    assert begun(watch(frozen_with_clock(busy_film, K))) == {"camera_frozen": pytest.approx(FAULT_S, abs=1.0)}


def test_somebody_who_walks_past_is_no_clock_over_a_frozen_picture():
    view = Place.make(5).seen()
    film = [walker(view, 4 * i % WIDTH, 300, 20, 50) for i in range(200)]
    assert begun(watch(noisy(film, 1.5))) == {}


def test_a_scene_without_any_noise_is_taken_for_frozen_only_after_a_minute():
    film = [Place.make(4).seen()] * 200
    told = watch(film)
    assert begun(told) == {"camera_frozen": 0.0}
    assert told[0].update_s - told[0].start_s >= 60.0


def test_a_frozen_picture_that_key_pictures_encode_anew_is_frozen(still_film):
    film = frozen(still_film, K)
    rng = np.random.default_rng(0)
    again = np.clip(film[-1] + rng.normal(0, 1, film[-1].shape), 0, 255).astype(np.uint8)
    film = [again if i >= K and i % 8 == 7 else picture for i, picture in enumerate(film)]
    assert "camera_frozen" in begun(watch(film))


@pytest.mark.parametrize("seed", range(2))
def test_people_close_to_the_camera_raise_no_alarm(seed):
    assert watch(busy(120, seed)) == []


def test_something_large_that_stands_before_half_of_the_picture_is_neither_cover_nor_move():
    view = Place.make(1).seen()
    before = view.copy()
    cv2.rectangle(before, (0, 40), (WIDTH // 2, HEIGHT), 90, -1)
    assert watch(noisy([view] * K + [before] * 60)) == []


def test_light_that_is_switched_off_and_on_raises_no_alarm():
    view = Place.make(2).seen().astype(np.float32)
    dim = (view * 0.35 + 5).astype(np.uint8)
    film = [dim if i // 40 % 2 else view.astype(np.uint8) for i in range(200)]
    assert watch(noisy(film)) == []


def test_a_lamp_that_lights_one_side_raises_no_alarm():
    view = Place.make(2).seen().astype(np.float32)
    lamp = np.linspace(1.5, 0.6, WIDTH, dtype=np.float32)[None, :]
    lit = np.clip(view * lamp, 0, 255).astype(np.uint8)
    assert watch(noisy([view.astype(np.uint8)] * K + [lit] * 60)) == []


def test_dusk_the_switch_to_infrared_and_dawn_raise_no_alarm():
    view = Place.make(6).seen().astype(np.float32)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    spot = np.exp(-(((x - WIDTH / 2) / WIDTH) ** 2 + ((y - HEIGHT / 2) / HEIGHT) ** 2) * 2)
    night = np.clip(20 + (view - 40) * 0.8 * spot, 0, 255)
    dusk = [view * share + 4 for share in np.linspace(1, 0.25, 100)]
    film = [*dusk, *[night] * 80, *dusk[::-1], *[view] * 40]
    assert watch(noisy([np.clip(picture, 0, 255).astype(np.uint8) for picture in film], 2.5)) == []


def test_a_short_fault_is_not_told(still_film):
    film = covered(still_film, K, 1)[: K + 8] + still_film[K + 8 :]
    assert watch(film) == []
    assert begun(watch(film, HealthConfig(min_time_s=2.0))) == {"camera_covered": pytest.approx(FAULT_S, abs=1.0)}


@pytest.mark.parametrize("fault", [covered, defocused, dark, moved])
def test_a_fault_that_is_mended_ends_when_it_was_mended(still_film, fault):
    film = fault(still_film, K, 3)[: K + 25] + still_film[K + 25 :]
    told = watch(film)
    assert told[-1].state is EventState.ENDED
    assert told[-1].end_s == pytest.approx(START_S + (K + 25) / FPS, abs=1.0)
    assert len({event.event_id for event in told}) == 1


def test_the_same_film_gives_the_same_events(still_film):
    film = moved(still_film, K, 3)
    first, again = watch(film), watch(film)
    assert [(event.event_id, event.state, event.update_s) for event in first] == [
        (event.event_id, event.state, event.update_s) for event in again
    ]


def test_a_camera_that_stays_where_it_was_turned_to_is_well_again_after_a_minute(still_film):
    turned = noisy([Place.make(0).seen(90, 30)] * 220, 2.0, 7)
    told = watch(still_film[:K] + turned)
    assert [event.kind for event in told if event.state is EventState.ENDED] == [EventKind.CAMERA_MOVED]
    assert told[-1].end_s == pytest.approx(told[-1].start_s + 60, abs=3)
    # And it has learned: from there, the old view is another one.
    back = noisy([Place.make(0).seen()] * 40, 2.0, 9)
    again = watch(still_film[:K] + turned + back)
    assert sorted({event.start_s - START_S for event in again}) == pytest.approx([30, 140], abs=1.5)


@pytest.mark.parametrize("degrees", [0.0, 4.0, -8.0])
@pytest.mark.parametrize("dx", [20, 60])
def test_a_small_turn_is_a_move(degrees, dx, still_film):
    film = still_film[:K] + noisy([Place.make(0).seen(dx, -10, degrees)] * 40, 2.0, 3)
    assert set(begun(watch(film))) == {"camera_moved"}


def test_ignored_kinds_and_a_disabled_watch_tell_nothing(still_film):
    film = dark(still_film, K)
    assert watch(film, HealthConfig(ignored=frozenset({"camera_dark"}))) == []
    assert watch(film, HealthConfig(enabled=False)) == []


def test_what_is_not_watched_any_more_ends_and_so_does_all_at_the_end(still_film):
    for end in (
        lambda health: health.change(HealthConfig(ignored=frozenset({"camera_dark"})), START_S + 99),
        lambda health: health.close(START_S + 99),
    ):
        health = CameraHealth("yard", HealthConfig())
        for i, picture in enumerate(dark(still_film, K)):
            health.picture(luma_of_array(picture, lines=True), START_S + i / FPS)
        assert health.faults == (EventKind.CAMERA_DARK,)
        (ended,) = end(health).events
        assert (ended.state, ended.end_s, health.faults) == (EventState.ENDED, START_S + 99, ())


def test_two_pictures_a_second_are_looked_at():
    health = CameraHealth("yard", HealthConfig())
    luma = luma_of_array(Place.make().seen(), lines=True)
    wanted = []
    for i in range(50):
        wanted.append(health.wants(START_S + i / 25))
        health.picture(luma, START_S + i / 25)
    assert sum(wanted) == 4


@pytest.fixture(scope="module")
def real_film():
    """Two pictures a second of a real camera, forwards and backwards: people pass right below it."""
    with av.open(str(asset("clips/intel_one-by-one-person-detection.mp4"))) as container:
        film = [f.to_ndarray(format="gray") for i, f in enumerate(container.decode(video=0)) if i % 5 == 0][:K]
    return film + film[::-1]


def test_a_real_camera_raises_no_alarm(real_film):
    assert watch(real_film) == []


@pytest.mark.parametrize("kind", PICTURE_FAULTS)
def test_each_fault_of_a_real_camera_is_told(kind, real_film):
    assert set(begun(watch(PICTURE_FAULTS[kind](real_film[: K + 30], K, 4)))) == {kind}


@pytest.mark.parametrize("shift", [(120, 70), (-90, 100), (60, -120)])
def test_a_camera_that_is_turned_over_a_bare_yard_is_moved_and_not_covered(shift):
    yard = np.full((HEIGHT, WIDTH), 110, np.uint8)
    for i in range(6):
        cv2.rectangle(yard, (60 + 95 * i, 120), (75 + 95 * i, 220), 230, -1)
    turned = np.roll(yard, shift, (1, 0))
    assert set(begun(watch(noisy([yard] * K + [turned] * 40)))) == {"camera_moved"}
