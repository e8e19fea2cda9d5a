from __future__ import annotations

import io
import itertools
import threading
import time

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vedette_client.padded import padded_packet
from vedette_client.scene.blobs import Blobs
from vedette_client.scene.cache import Clip, shared_clip
from vedette_client.scene.spec import parse_scene
from vedette_client.scene.truth import TruthObject, overlap
from vedette_client.sources import open_source

CHANNELS = {"red": 0, "green": 1, "blue": 2}


def spec(query):
    return parse_scene(f"blobs?{query}")


def squares(picture):
    """Find saturated squares by threshold and connected components."""
    found = []
    height, width = picture.shape[:2]
    for label, channel in CHANNELS.items():
        others = [c for c in range(3) if c != channel]
        mask = (picture[..., channel] > 150) & (picture[..., others].max(-1) < 110)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        for x, y, w, h, area in stats[1:]:
            if area > 16:
                box = (x / width, y / height, (x + w) / width, (y + h) / height)
                found.append(TruthObject(label, *map(float, box), id=0))
    return found


def assert_same(found, truth, iou=0.7):
    assert len(found) == len(truth.objects)
    for wanted in truth.objects:
        assert any(one.label == wanted.label and overlap(one.box, wanted.box) > iou for one in found), (wanted, found)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 24),
    size=st.sampled_from([(160, 96), (640, 360), (320, 240), (480, 640)]),
    index=st.integers(0, 500),
)
def test_squares_keep_their_distance_from_each_other_and_the_border(seed, count, size, index):
    width, height = size
    scene = spec(f"seed={seed}&count={count}&width={width}&height={height}")
    objects = Blobs(scene).truth(index).objects
    assert len(objects) == count
    gap_x, gap_y = 3 / 160, 3 / 96
    for one in objects:
        assert one.x1 >= gap_x - 1e-9
        assert one.y1 >= gap_y - 1e-9
        assert one.x2 <= 1 - gap_x
        assert one.y2 <= 1 - gap_y
        assert 1 / 16 - 1e-9 <= one.y2 - one.y1 <= 1 / 6 + 1e-9
    for a, b in itertools.combinations(objects, 2):
        apart_x = max(a.x1, b.x1) - min(a.x2, b.x2)
        apart_y = max(a.y1, b.y1) - min(a.y2, b.y2)
        assert apart_x >= gap_x or apart_y >= gap_y


def test_a_picture_shows_what_its_truth_says_over_a_dim_grey_ground():
    scene = Blobs(spec("seed=5&count=6"))
    picture = scene.draw(11)
    truth = scene.truth(11)
    assert_same(squares(picture), truth, iou=0.99)
    mask = np.ones(picture.shape[:2], bool)
    for one in truth.objects:
        mask[round(one.y1 * 360) : round(one.y2 * 360), round(one.x1 * 640) : round(one.x2 * 640)] = False
    ground = picture[mask]
    assert ground.min() >= 40
    assert ground.max() <= 110
    assert np.ptp(ground, axis=1).max() == 0


def test_a_scene_follows_from_its_seed_and_repeats_after_its_period():
    scene = spec("seed=1&period_s=2&fps=10")
    assert np.array_equal(Blobs(scene).draw(3), Blobs(scene).draw(23))
    assert Blobs(scene).truth(3) == Blobs(scene).truth(23)
    assert Blobs(scene).truth(3) != Blobs(scene).truth(4)
    assert not np.array_equal(Blobs(scene).draw(3), Blobs(spec("seed=2&period_s=2&fps=10")).draw(3))


DECODERS = {"h264": "h264", "hevc": "hevc", "mpeg4": "mpeg4", "vp9": "vp9"}
SMALL = "seed=2&fps=5&period_s=2&gop=4&width=320&height=192&seconds=5"


@pytest.mark.parametrize(
    "query", ["codec=h264", "codec=h264&bframes=2", "codec=hevc", "codec=mpeg4&bframes=1", "codec=vp9"]
)
def test_decoded_pictures_show_their_truth_over_the_seam_of_two_periods(query):
    source = open_source(f"synthetic:blobs?{query}&{SMALL}", pace=False)
    source.open()
    packets = list(source.packets())
    context = av.CodecContext.create(DECODERS[query.split("&")[0].partition("=")[2]], "r")
    context.thread_count = 1
    frames = []
    for packet in packets:
        data = padded_packet(packet.data)
        data.pts, data.dts = packet.pts, packet.dts
        frames += context.decode(data)
    frames += context.decode(None)
    assert len(frames) == len(packets) == 25
    truths = {packet.pts: packet.truth for packet in packets}
    for frame in frames:
        assert_same(squares(frame.to_ndarray(format="rgb24")), truths[frame.pts])


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_stills_show_their_truth(codec):
    source = open_source(f"synthetic:blobs?codec={codec}&{SMALL}", pace=False)
    source.open()
    packets = list(source.packets())
    assert len(packets) == 25
    for packet in packets:
        assert_same(squares(np.asarray(Image.open(io.BytesIO(packet.data)))), packet.truth)


@pytest.mark.parametrize("layout", ["bgr24", "rgb24", "nv12", "i420"])
def test_raw_pictures_show_their_truth(layout):
    source = open_source(f"synthetic:blobs?codec=raw&pixel_format={layout}&width=160&height=96&seconds=1")
    form = source.open()
    packet = next(source.packets())
    names = {"i420": "yuv420p"}
    shape = (96, 160, 3) if "24" in layout else (144, 160)
    array = np.frombuffer(packet.data, np.uint8).reshape(shape)
    picture = av.VideoFrame.from_ndarray(array, format=names.get(layout, layout)).to_ndarray(format="rgb24")
    assert_same(squares(picture), packet.truth)
    assert form.pixel_format == {"bgr24": 1, "rgb24": 2, "nv12": 4, "i420": 5}[layout]
    assert packet.keyframe


def test_times_go_on_without_a_gap_when_the_period_repeats():
    source = open_source("synthetic:blobs?fps=10&period_s=1&bframes=2&width=160&height=96&seconds=3")
    source.open()
    before = time.time_ns()
    packets = list(source.packets())
    assert [packet.dts for packet in packets] == list(range(packets[0].dts, packets[0].dts + 30))
    assert sorted(packet.pts for packet in packets) == list(range(30))
    assert all(packet.pts >= packet.dts for packet in packets)
    assert [packet.due_s for packet in packets] == pytest.approx([index / 10 for index in range(30)])
    assert [i for i, packet in enumerate(packets) if packet.keyframe] == [0, 10, 20]
    # A camera sends a picture after it took it, never before.
    assert all((packet.capture_time_ns - before) / 1e9 <= packet.due_s + 0.05 for packet in packets)


def test_an_endless_scene_is_live_and_a_finite_one_waits():
    assert open_source("synthetic:blobs").live
    assert not open_source("synthetic:blobs", pace=False).live
    assert not open_source("synthetic:blobs?seconds=3").live


def test_closing_ends_an_endless_scene():
    source = open_source("synthetic:blobs?width=160&height=96")
    source.open()
    packets = source.packets()
    next(packets)
    source.close()
    assert list(packets) == []


def test_sources_of_one_scene_share_its_packets():
    scene = spec("width=160&height=96&seed=77")
    clip = shared_clip(scene)
    assert shared_clip(spec("width=160&height=96&seed=77&seconds=9")) is clip
    assert shared_clip(spec("width=160&height=96&seed=78")) is not clip
    assert clip.packet(5).data is clip.packet(5).data


def test_many_threads_see_the_same_packets():
    clip = Clip(spec("width=160&height=96&fps=10&period_s=2&bframes=1"))
    seen = [[] for _ in range(4)]

    def walk(place):
        seen[place] = [clip.packet(index) for index in range(20)]

    threads = [threading.Thread(target=walk, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(packets == seen[0] for packets in seen)
    assert sorted(packet.pts for packet in seen[0]) == list(range(20))
