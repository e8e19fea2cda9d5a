"""Ways from a decoded picture to an engine's input: CPU time and difference from converting first.

`python -m bench convert [--assets ../shared/assets] [--side 416]`. Prints one table for video, one for JPEG. The
reference is the loop behind the golden files: `to_ndarray("bgr24")`, then `cv2.resize` bilinear.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter

from vedette_server.data.format import Codec, ColorSpace, VideoFormat
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.still import StillDecoder
from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.scratch import plane_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Way = Callable[[object, NDArray[np.uint8]], None]

ROOT = Path(__file__).parents[1]
FRAMES, ROUNDS, PAD = 12, 12, 114
CLIPS = (
    ("intel_one-by-one-person-detection.mp4", None),
    ("intel_classroom_h264_pingpong4.mp4", None),
    ("intel_store-aisle_1080p_h264.mp4", (1280, 720)),
    ("intel_store-aisle_1080p_h264.mp4", None),
)
STILLS = (("intel_store-aisle-detection_h264_pingpong4.mp4", 80), ("intel_store-aisle_1080p_h264.mp4", 85))


class Ways:
    """The ways that were considered, for one input size."""

    def __init__(self, side: int) -> None:
        self.fit = Letterbox(side, side)
        self._reformatter = VideoReformatter()
        self._i420: dict[tuple[int, int], list[NDArray[np.uint8]]] = {}

    def _place(self, frame: av.VideoFrame) -> tuple[int, int]:
        return self.fit.place(frame.width, frame.height).coded_fit

    def convert_first(self, frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        """Let swscale convert the whole frame, on as many threads as it likes, and resize it."""
        width, height = self._place(frame)
        slot[:height, :width] = cv2.resize(frame.to_ndarray(format="bgr24"), (width, height))

    def swscale(self, interpolation: str) -> Way:
        """Let swscale resize and convert at once."""

        def way(frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
            width, height = self._place(frame)
            small = self._reformatter.reformat(
                frame, width, height, "bgr24", interpolation=interpolation, threads=1
            ).planes[0]
            rows = np.frombuffer(small, np.uint8).reshape(-1, small.line_size)
            slot[:height, :width] = rows[:height, : width * 3].reshape(height, width, 3)

        return way

    def planes_and_cvtcolor(self, interpolation: int) -> Way:
        """Resize the planes and let OpenCV convert them; even sizes, BT.601 limited only."""

        def way(frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
            width, height = self._place(frame)
            whole, *planes = self._i420.setdefault((width, height), _i420(width, height))
            for source, target in zip(plane_views(frame), planes, strict=True):
                cv2.resize(source, (target.shape[1], target.shape[0]), dst=target, interpolation=interpolation)
            cv2.cvtColor(whole, cv2.COLOR_YUV2BGR_I420, dst=slot[:height, :width])

        return way

    def ours(self, frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        """Do what the server does."""
        video_frame_into(frame, slot, self.fit, color_space=ColorSpace.BT601)


def _i420(width: int, height: int) -> list[NDArray[np.uint8]]:
    whole = np.empty(width * height * 3 // 2, np.uint8)
    luma, first, second = np.split(whole, [width * height, width * height * 5 // 4])
    half = (height // 2, width // 2)
    return [whole.reshape(-1, width), luma.reshape(height, width), first.reshape(half), second.reshape(half)]


def measure(ways: dict[str, Way], pictures: Sequence[object], side: int) -> None:
    """Print a row per way: CPU microseconds per picture, ratio to the first way, difference from it."""
    expected = _results(next(iter(ways.values())), pictures, side)
    slot = np.full((side, side, 3), PAD, np.uint8)
    best = dict.fromkeys(ways, float("inf"))
    # Round by round, so that a disturbance from outside meets all of them.
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = min(best[name], _seconds(way, pictures, slot))
    base = next(iter(best.values()))
    for name, way in ways.items():
        mean, largest = _difference(_results(way, pictures, side), expected)
        seconds = best[name]
        print(f"  {name:44} {seconds * 1e6:7.0f} µs  {seconds / base:5.2f}  mean {mean:5.2f}  max {largest:3}")


def _results(way: Way, pictures: Sequence[object], side: int) -> list[NDArray[np.uint8]]:
    slots = [np.full((side, side, 3), PAD, np.uint8) for _ in pictures]
    for picture, slot in zip(pictures, slots, strict=True):
        way(picture, slot)
    return slots


def _difference(found: list[NDArray[np.uint8]], expected: list[NDArray[np.uint8]]) -> tuple[float, int]:
    """Return mean and maximum in grey levels, over the rows that are not padding."""
    differences = [
        cv2.absdiff(one, other)[(other != PAD).any(axis=(1, 2))] for one, other in zip(found, expected, strict=True)
    ]
    return float(np.mean([part.mean() for part in differences])), max(int(part.max()) for part in differences)


def _seconds(way: Way, pictures: Sequence[object], slot: NDArray[np.uint8]) -> float:
    started = time.process_time()
    for picture in pictures:
        way(picture, slot)
    return (time.process_time() - started) / len(pictures)


def bench_video(assets: Path, side: int) -> None:
    for name, size in CLIPS:
        with av.open(str(assets / "clips" / name)) as container:
            frames = [frame for _, frame in zip(range(FRAMES), container.decode(video=0), strict=False)]
        if size:
            frames = [frame.reformat(*size) for frame in frames]
        ways = Ways(side)
        table: dict[str, Way] = {
            "convert, then resize (reference)": ways.convert_first,
            "swscale at once, FAST_BILINEAR": ways.swscale("FAST_BILINEAR"),
            "swscale at once, BILINEAR": ways.swscale("BILINEAR"),
            "swscale at once, AREA": ways.swscale("AREA"),
            "planes INTER_AREA, cvtColor": ways.planes_and_cvtcolor(cv2.INTER_AREA),
            "planes INTER_LINEAR, cvtColor": ways.planes_and_cvtcolor(cv2.INTER_LINEAR),
            "planes INTER_LINEAR, swscale (the server's)": ways.ours,
        }
        print(f"\n{name} {frames[0].width}x{frames[0].height} -> {side}")
        measure(table, frames, side)


def bench_jpeg(assets: Path, side: int) -> None:
    for name, quality in (
        ("intel_store-aisle-detection_h264_pingpong4.mp4", 80),
        ("intel_store-aisle_1080p_h264.mp4", 85),
    ):
        with av.open(str(assets / "clips" / name)) as container:
            pixels = [f.to_ndarray(format="bgr24") for _, f in zip(range(6), container.decode(video=0), strict=False)]
        stills = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes() for picture in pixels]
        height, width = pixels[0].shape[:2]
        print(f"\nJPEG {width}x{height}, quality {quality}, {len(stills[0])} bytes -> {side}")
        measure(_jpeg_ways(side), stills, side)


def _jpeg_ways(side: int) -> dict[str, Way]:
    fit = Letterbox(side, side)
    decoder = StillDecoder(VideoFormat(Codec.JPEG), PictureLimits())

    def lay(pixels: NDArray[np.uint8], slot: NDArray[np.uint8], size: tuple[int, int]) -> None:
        place = fit.place(*size)
        slot[: place.fit_height, : place.fit_width] = cv2.resize(pixels, (place.fit_width, place.fit_height))

    def opencv(still: bytes, slot: NDArray[np.uint8]) -> None:
        pixels = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_COLOR)
        lay(pixels, slot, (pixels.shape[1], pixels.shape[0]))

    def full(still: bytes, slot: NDArray[np.uint8]) -> None:
        pixels = simplejpeg.decode_jpeg(still, "BGR")
        lay(pixels, slot, (pixels.shape[1], pixels.shape[0]))

    def ours(still: bytes, slot: NDArray[np.uint8]) -> None:
        picture = decoder.open_picture(still)
        picture.letterbox_into(slot, fit)
        picture.close()

    return {
        "cv2.imdecode, resize (reference)": opencv,
        "simplejpeg, resize": full,
        "simplejpeg scaled, resize (the server's)": ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets", help="folder with clips/")
    parser.add_argument("--side", type=int, default=416, help="width and height of the engine's input, pixels, even")
    arguments = parser.parse_args()
    if not (arguments.assets / "clips").is_dir():
        parser.error(f"no clips in {arguments.assets}")
    cv2.setNumThreads(1)
    bench_video(arguments.assets, arguments.side)
    bench_jpeg(arguments.assets, arguments.side)


if __name__ == "__main__":
    main()
