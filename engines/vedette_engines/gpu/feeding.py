"""Bring the frames of a batch into a lane's input: letterboxed ones by a copy, pictures by the kernel that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.cuda.letterboxing import Surface
from vedette_engines.errors import RunError
from vedette_engines.gpu.base import DevicePicture, HostPicture, SlotFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.cuda.base import Device, DeviceBuffer, PinnedBuffer, Stream
    from vedette_engines.cuda.letterboxing import DeviceLetterbox
    from vedette_engines.gpu.base import Feed

# Pictures begin at multiples of this in the staging memory, as the driver's own allocations do.
_ALIGNMENT = 256


class Feeder:
    """The way into one lane's input. One thread at a time, attached.

    Args:
        device: Whose.
        stream: The lane's.
        target: The lane's input.
        frame_bytes: Length of one frame of it.
        letterbox: Letterboxes pictures; None: pictures are refused. Belongs to the caller.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        target: DeviceBuffer,
        frame_bytes: int,
        letterbox: DeviceLetterbox | None,
    ) -> None:
        self._device = device
        self._stream = stream
        self._target = target
        self._frame_bytes = frame_bytes
        self._letterbox = letterbox
        self._staging: DeviceBuffer | None = None

    def feed(self, frames: Sequence[Feed]) -> None:
        """Enqueue all that brings frames into the slots of the input, the first into the first.

        All uploads come first: while a later kernel of this lane waits for the GPU, another lane may upload.

        Raises:
            RunError: A frame leaves its memory, or a picture cannot be letterboxed.
            CudaError: The device failed.
        """
        self._upload_frames(frames)
        surfaces = self._upload_pictures(frames)
        for slot_index, frame in enumerate(frames):
            if isinstance(frame, HostPicture):
                self._letterboxed(surfaces[slot_index], frame, slot_index)
            elif isinstance(frame, DevicePicture):
                self._order(frame)
                self._letterboxed(frame.surface, frame, slot_index)

    def close(self) -> None:
        """Let go of the staging memory; may be called twice."""
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.close()

    def _upload_frames(self, frames: Sequence[Feed]) -> None:
        """Upload letterboxed frames; those that lie side by side, and go side by side, by one copy."""
        size = self._frame_bytes
        memory: PinnedBuffer | None = None
        at = slot_index = count = 0
        for index, frame in enumerate(frames):
            if not isinstance(frame, SlotFrame):
                continue
            if frame.at < 0 or frame.at + size > frame.memory.array.nbytes:
                raise RunError(
                    f"frame {index} takes bytes {frame.at}..{frame.at + size} of pinned memory "
                    f"of {frame.memory.array.nbytes}"
                )
            if frame.memory is memory and frame.at == at + count * size and index == slot_index + count:
                count += 1
                continue
            self._upload(memory, at, slot_index, count)
            memory, at, slot_index, count = frame.memory, frame.at, index, 1
        self._upload(memory, at, slot_index, count)

    def _upload(self, memory: PinnedBuffer | None, at: int, slot_index: int, count: int) -> None:
        if memory is not None:
            size = self._frame_bytes
            self._stream.upload(self._target, memory, count * size, target_at=slot_index * size, source_at=at)

    def _upload_pictures(self, frames: Sequence[Feed]) -> dict[int, Surface]:
        """Upload pictures into the staging memory, and describe them there, by slot."""
        places: dict[int, tuple[HostPicture, int]] = {}
        size = 0
        for slot_index, frame in enumerate(frames):
            if isinstance(frame, HostPicture):
                places[slot_index] = (frame, size)
                size += -(-frame.layout.size_bytes // _ALIGNMENT) * _ALIGNMENT
        if not size:
            return {}
        staging = self._stage(size)
        surfaces = {}
        for slot_index, (frame, at) in places.items():
            if frame.layout.size_bytes > frame.memory.array.nbytes:
                raise RunError(
                    f"picture {slot_index} has {frame.layout.size_bytes} bytes, its memory {frame.memory.array.nbytes}"
                )
            try:
                surfaces[slot_index] = Surface.from_layout(staging, frame.layout, at=at)
            except ValueError as error:
                raise RunError(f"picture {slot_index} cannot be letterboxed: {error}") from error
            self._stream.upload(staging, frame.memory, frame.layout.size_bytes, target_at=at)
        return surfaces

    def _stage(self, size: int) -> DeviceBuffer:
        """Give staging memory of at least this size; the lane is idle, nothing uses what it had."""
        if self._staging is None or self._staging.size_bytes < size:
            self.close()
            # Taking memory makes the whole device wait: by powers of two it is soon enough for good.
            self._staging = self._device.allocate(1 << (size - 1).bit_length())
        return self._staging

    def _order(self, picture: DevicePicture) -> None:
        if picture.order is None:
            return
        try:
            picture.order(self._stream)
        except Exception as error:  # a decoder's library raises what it likes
            if isinstance(error, AssertionError):
                raise
            raise RunError(f"a decoder's surface cannot be waited for: {error}") from error

    def _letterboxed(self, surface: Surface, picture: HostPicture | DevicePicture, slot_index: int) -> None:
        if self._letterbox is None:
            raise RunError(f"frame {slot_index} is a picture, but the lanes were opened without a letterbox")
        try:
            self._letterbox.launch(self._stream, surface, self._target, slot_index, picture.place, picture.colour)
        except ValueError as error:
            raise RunError(f"picture {slot_index} cannot be letterboxed: {error}") from error
