from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from support_sources import write_clip
from vedette_client.drawing import Annotator, draw_boxes
from vedette_client.drawing.boxes import caption_of, color_of
from vedette_client.errors import SourceError
from vedette_client.sources import open_source
from vedette_client.sources.base import SourceFormat, SourcePacket


@dataclass
class Detection:
    label: str = "person"
    score: float = 0.9
    box: tuple[float, float, float, float] = (0.25, 0.5, 0.75, 0.95)
    track_id: str = ""


@dataclass
class Verdict:
    sequence: int
    analysed: bool = True
    detections: list[Detection] = field(default_factory=lambda: [Detection()])


def packets_of(spec, **options):
    source = open_source(str(spec), pace=False, **options)
    form = source.open()
    packets = list(source.packets())
    source.close()
    return form, packets


def pictures_of(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def edge(picture, box=(0.25, 0.5, 0.75, 0.95)):
    """Mean colours of the rows around the lower edge of the box, away from its corners."""
    height, width = picture.shape[:2]
    row = round(box[3] * height)
    return picture[row - 4 : row + 2, round(0.35 * width) : round(0.65 * width)].mean(1)


def is_drawn(picture):
    """Whether one of those rows has the box's colour, as far as halved chroma lets it."""
    return np.abs(edge(picture) - np.array(color_of("person"))).max(1).min() < 90


def test_boxes_and_captions_are_drawn_in_place_and_nothing_else_changes():
    picture = np.full((200, 300, 3), 30, np.uint8)
    draw_boxes(picture, [Detection()])
    assert tuple(picture[100, 150]) == color_of("person") or picture[100, 150].max() > 30
    assert tuple(picture[189, 200]) == color_of("person")
    assert (picture[110:180, 85:215] == 30).all()
    assert (picture[:60] == 30).all()


@pytest.mark.parametrize("box", [(-1, -1, 2, 2), (0.9, 0.9, 0.1, 0.1), (0, 0, 0, 0), (1, 1, 1, 1), (0.5, 0, 0.9, 0.01)])
def test_boxes_beyond_the_picture_are_cut_off(box):
    draw_boxes(np.zeros((40, 40, 3), np.uint8), [Detection(box=box)])


def test_a_caption_tells_label_score_and_track():
    assert caption_of(Detection(score=0.876)) == "person 0.88"
    assert caption_of(Detection(track_id="channels/a/tracks/12345678")) == "person 0.90 #345678"


def test_labels_keep_their_colours():
    assert color_of("person") == color_of("person") != color_of("car")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.h264"])
def test_every_picture_of_a_file_is_written_with_its_boxes(tmp_path, name):
    form, packets = packets_of(write_clip(tmp_path / name, fps=12))
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(packets):
            annotator.add_packet(sequence, packet)
        for sequence in range(len(packets)):
            annotator.add_verdict(Verdict(sequence))
    written = pictures_of(tmp_path / "out.mp4")
    assert len(written) == annotator.frames == 24
    assert all(is_drawn(picture) for _, picture in written)
    if name == "clip.mp4":
        assert [time for time, _ in written] == pytest.approx([index / 12 for index in range(24)], abs=1e-3)


def test_verdicts_find_their_pictures_whatever_the_order(tmp_path):
    form, packets = packets_of(write_clip(tmp_path / "clip.mp4"))
    by_time = sorted(range(24), key=lambda sequence: packets[sequence].pts)
    wanted = {sequence for place, sequence in enumerate(by_time) if place < 5}
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence in reversed(range(24)):
            annotator.add_verdict(Verdict(sequence, detections=[Detection()] if sequence in wanted else []))
        for sequence, packet in enumerate(packets):
            annotator.add_packet(sequence, packet)
    drawn = [is_drawn(picture) for _, picture in pictures_of(tmp_path / "out.mp4")]
    assert drawn == [True] * 5 + [False] * 19


def test_skipped_pictures_show_dimly_what_was_seen_last_and_only_for_a_while(tmp_path):
    form, packets = packets_of("synthetic:blobs?count=0&fps=10&seconds=3")
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(packets):
            annotator.add_packet(sequence, packet)
            annotator.add_verdict(Verdict(sequence, analysed=sequence == 0))
    written = [picture for _, picture in pictures_of(tmp_path / "out.mp4")]
    assert len(written) == 30
    assert is_drawn(written[0])
    assert not is_drawn(written[1])
    assert edge(written[1]).max() > edge(written[25]).max() + 15


def test_pictures_do_not_wait_for_ever_for_verdicts_that_never_come(tmp_path):
    form, packets = packets_of("synthetic:blobs?codec=raw&width=64&height=64&fps=10&seconds=60")
    annotator = Annotator(tmp_path / "out.mp4", form)
    for sequence, packet in enumerate(packets):
        annotator.add_packet(sequence, packet)
    assert annotator.frames >= 600 - 256
    annotator.close()
    assert annotator.frames == 600


@pytest.mark.parametrize(
    "query", ["codec=jpeg", "codec=png", "codec=raw&pixel_format=nv12", "codec=raw&pixel_format=gray8", "codec=hevc"]
)
def test_other_codings_are_drawn_too(tmp_path, query):
    form, packets = packets_of(f"synthetic:blobs?{query}&width=160&height=96&fps=5&seconds=2")
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(packets):
            annotator.add_verdict(Verdict(sequence))
            annotator.add_packet(sequence, packet)
    written = pictures_of(tmp_path / "out.mp4")
    assert len(written) == 10
    assert all(is_drawn(picture) for _, picture in written)


def test_a_lying_picture_is_drawn_upright(tmp_path):
    form, packets = packets_of(write_clip(tmp_path / "clip.mp4", rotation_ccw=90))
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(packets):
            annotator.add_packet(sequence, packet)
    assert pictures_of(tmp_path / "out.mp4")[0][1].shape == (128, 96, 3)


def test_an_odd_sized_still_is_cut_to_even_sides(tmp_path):
    Image.new("RGB", (101, 75)).save(tmp_path / "odd.png")
    form, packets = packets_of(tmp_path / "odd.png")
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        annotator.add_packet(0, packets[0])
    assert pictures_of(tmp_path / "out.mp4")[0][1].shape == (74, 100, 3)


def test_broken_packets_are_left_out(tmp_path):
    form, packets = packets_of("synthetic:blobs?codec=jpeg&width=160&height=96&seconds=1&fps=4")
    packets[1].data = b"\xff\xd8 no picture"
    packets[2].data = b""
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(packets):
            annotator.add_packet(sequence, packet)
            annotator.add_verdict(Verdict(sequence, analysed=sequence not in (1, 2)))
    assert len(pictures_of(tmp_path / "out.mp4")) == 2


def test_without_any_picture_no_file_is_written_and_closing_twice_is_fine(tmp_path):
    form, packets = packets_of("synthetic:blobs?seconds=1")
    annotator = Annotator(tmp_path / "out.mp4", form)
    annotator.close()
    annotator.close()
    annotator.add_packet(0, packets[0])
    annotator.add_verdict(Verdict(0))
    assert not (tmp_path / "out.mp4").exists()


def test_an_unknown_codec_is_refused(tmp_path):
    with pytest.raises(SourceError, match="codec 99"):
        Annotator(tmp_path / "out.mp4", SourceFormat(99, b"", Fraction(1, 25), 64, 64))


def test_a_change_of_size_in_mid_stream_is_scaled_to_the_first(tmp_path):
    form, small = packets_of("synthetic:blobs?codec=jpeg&width=160&height=96&seconds=1&fps=4")
    _, large = packets_of("synthetic:blobs?codec=jpeg&width=320&height=240&seconds=1&fps=4")
    with Annotator(tmp_path / "out.mp4", form) as annotator:
        for sequence, packet in enumerate(small + large):
            annotator.add_packet(sequence, SourcePacket(packet.data, sequence, sequence, 1, keyframe=True))
    assert {picture.shape for _, picture in pictures_of(tmp_path / "out.mp4")} == {(96, 160, 3)}


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    form, packets = packets_of("synthetic:blobs?codec=jpeg&width=160&height=96&seconds=1&fps=4")
    with pytest.raises(OSError, match=r"out\.mp4: cannot be written"):
        Annotator(tmp_path / "nowhere" / "out.mp4", form)
    (tmp_path / "out.mp4").mkdir()
    annotator = Annotator(tmp_path / "out.mp4", form)
    annotator.add_packet(0, packets[0])
    with pytest.raises(OSError, match=r"out\.mp4: cannot be written"):
        annotator.close()
    annotator.close()
