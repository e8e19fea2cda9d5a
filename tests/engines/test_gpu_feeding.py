"""How frames and pictures come into a lane's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_cuda_kernels import KERNELS
from support_gpu import FRAME_BYTES, SHAPE, Rig, sums
from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.base import Batch, DevicePicture, HostPicture, Outcome, PictureLayout, SlotFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH, _ = SHAPE


@dataclass(frozen=True)
class Place:
    """A picture that fills the input."""

    rotation_degrees: int = 0
    fit_width: int = WIDTH
    fit_height: int = HEIGHT
    left: int = 0
    top: int = 0


class Bench:
    """One lane that letterboxes, or not, and pictures for it."""

    def __init__(self, *, letterbox: bool = True, pad: int = 114) -> None:
        self.device: Any = SimulatedDevice(copy_s=lambda _, size: 1e-3, kernels=KERNELS)
        self.rig = Rig(self.device)
        self._batches: list[Batch] = []
        self._outcomes: list[Outcome] = []
        self._kept: list[Any] = []
        self.member = self.rig.add(self, lanes=1, letterbox=letterbox, pad=pad)

    def take(self, now: float) -> Batch | None:
        return self._batches.pop() if self._batches else None

    def due_at(self) -> float | None:
        return 0.0 if self._batches else None

    def pinned(self, array: NDArray[np.uint8]) -> Any:
        self._kept.append(self.device.pin(array.nbytes))
        self._kept[-1].array[:] = array.reshape(-1)
        return self._kept[-1]

    def slot(self, picture: NDArray[np.uint8]) -> SlotFrame:
        return SlotFrame(self.pinned(picture))

    def host(self, picture: NDArray[np.uint8], kind: SurfaceKind = SurfaceKind.BGR, **place: int) -> HostPicture:
        height, width, _ = picture.shape
        layout = PictureLayout(kind, width, height, (0,), (width * 3,), picture.nbytes)
        return HostPicture(self.pinned(picture), layout, Place(**place), None)

    def on_device(self, picture: NDArray[np.uint8], **place: int) -> DevicePicture:
        height, width, _ = picture.shape
        memory, stream = self.device.allocate(picture.nbytes), self.device.stream()
        stream.upload(memory, self.pinned(picture), picture.nbytes)
        stream.synchronize()
        stream.close()
        self._kept.append(memory)
        return DevicePicture(Surface.packed(SurfaceKind.BGR, memory, width, height), Place(**place), None)

    def run(self, frames: list[Any]) -> Outcome:
        self._batches.append(Batch(frames, self._outcomes.append))
        count = len(self._outcomes) + 1
        self.rig.run(lambda: len(self._outcomes) == count)
        return self._outcomes[-1]

    def close(self) -> None:
        assert self.rig.executor.close()
        for thing in self._kept:
            thing.close()
        self.device.close()


def pictures(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8))


def test_frames_and_pictures_of_all_kinds_may_share_a_batch() -> None:
    bench = Bench()
    given = pictures(5)
    ways = (bench.slot, bench.host, bench.on_device, bench.slot, bench.host)
    outcome = bench.run([way(picture) for way, picture in zip(ways, given, strict=True)])
    assert outcome.error == ""
    assert outcome.rows is not None
    assert np.array_equal(outcome.rows, sums(np.stack(given)))
    bench.close()


def test_rgb_is_turned_and_what_a_picture_does_not_cover_is_padded() -> None:
    bench = Bench(pad=7)
    picture = pictures(1, height=2, width=2)[0]
    outcome = bench.run([bench.host(picture, SurfaceKind.RGB, fit_width=2, left=1)])
    wanted = np.full(SHAPE, 7, np.uint8)
    wanted[:, 1:3] = picture[..., ::-1]
    assert outcome.rows is not None
    assert np.array_equal(outcome.rows, sums(wanted[None]))
    bench.close()


def test_larger_pictures_find_more_staging_memory() -> None:
    bench = Bench()
    for size in (2, 8, 64, 16):
        given = np.full((size, size * 2, 3), size, np.uint8)
        outcome = bench.run([bench.host(given), bench.host(given)])
        assert outcome.rows is not None
        assert np.array_equal(outcome.rows, sums(np.full((2, *SHAPE), size, np.uint8)))
    bench.close()


def test_all_uploads_of_a_batch_come_before_its_kernels() -> None:
    bench = Bench()
    before = len(bench.device.timeline.spans)
    bench.run([bench.host(picture) for picture in pictures(3)])
    engines = [span.engine for span in bench.device.timeline.spans[before:]]
    assert engines == ["upload"] * 3 + ["compute"] * 4 + ["download"]
    bench.close()


def test_neighbours_go_up_together_and_others_alone() -> None:
    bench = Bench(letterbox=False)
    memory = bench.pinned(np.stack(pictures(4)))
    frames = [SlotFrame(memory, index * FRAME_BYTES) for index in (0, 1, 3, 2)]
    before = len(bench.device.timeline.spans)
    bench.run(frames)
    uploads = [span for span in bench.device.timeline.spans[before:] if span.engine == "upload"]
    assert len(uploads) == 3
    bench.close()


@pytest.mark.parametrize("way", ["host", "on_device"])
def test_pictures_are_refused_by_lanes_without_a_letterbox(way: str) -> None:
    bench = Bench(letterbox=False)
    picture = pictures(1)[0]
    outcome = bench.run([bench.slot(picture), getattr(bench, way)(picture)])
    assert outcome.error == "frame 1 is a picture, but the lanes were opened without a letterbox"
    assert bench.run([bench.slot(picture)]).error == ""
    bench.close()


def test_a_picture_that_cannot_be_letterboxed_costs_its_batch_only() -> None:
    bench = Bench()
    picture = pictures(1)[0]
    good = bench.host(picture)
    layout = good.layout
    for bad, message in (
        (bench.host(picture, left=1), "picture 1 cannot be letterboxed: a picture of 4x2 at 1, 0 leaves the input"),
        (replace(good, layout=replace(layout, size_bytes=1000)), "picture 1 has 1000 bytes, its memory 24"),
        (replace(good, layout=replace(layout, pitches=(5,))), "picture 1 cannot be letterboxed: pixels take"),
        (replace(good, layout=replace(layout, kind=SurfaceKind.NV12)), "picture 1 cannot be letterboxed: NV12 planes"),
    ):
        assert bench.run([good, bad]).error.startswith(message)
        assert bench.run([good]).error == ""
    bench.close()


def test_a_surface_that_cannot_be_waited_for_costs_its_batch_only() -> None:
    def order(_: object) -> None:
        raise OSError("the decoder is gone")

    bench = Bench()
    good = bench.on_device(pictures(1)[0])
    outcome = bench.run([good, replace(good, order=order)])
    assert outcome.error == "a decoder's surface cannot be waited for: the decoder is gone"
    assert bench.run([good]).error == ""
    bench.close()
