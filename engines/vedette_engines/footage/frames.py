"""Take frames out of clips, spread over all of them and over the length of each.

The first frames of a clip show what stands before the camera anyway; frames from everywhere show what comes by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.frames import Sample
from vedette_engines.graft.letterbox import Letterbox, letterbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vedette_engines.footage.clips import Clip
    from vedette_engines.manifest import InputSpec

# From so many frames between two wanted ones on, going there is quicker than decoding all between: some GOPs.
FAR = 250
# Frames are looked at more than once, and held in the meantime; this much of the memory is theirs.
MAX_HELD_BYTES = 4 << 30
# So many frames at the beginning show whether times number the frames.
_COUNTED = 16


@dataclass(frozen=True, slots=True)
class FootageFrame:
    """One frame of a clip, letterboxed, that knows where it comes from.

    Attributes:
        sample: What an engine takes.
        clip: The clip.
        index: Number of the frame in its clip, from 0; of pictures, their place in the order of names.
        place: Where the picture stands in the input: leads boxes back to source pixels.
    """

    sample: Sample
    clip: Clip
    index: int
    place: Letterbox

    @property
    def source_width(self) -> int:
        """Width of the picture as it came."""
        return self.place.source_width

    @property
    def source_height(self) -> int:
        """Height of the picture as it came."""
        return self.place.source_height


def read_frames(
    clips: Sequence[Clip], spec: InputSpec, count: int, say: Callable[[str], None] | None = None
) -> list[Sample]:
    """Take `count` frames, or all there are if they are fewer; see `read_footage`."""
    return [frame.sample for frame in read_footage(clips, spec, count, say)]


def read_footage(
    clips: Sequence[Clip], spec: InputSpec, count: int, say: Callable[[str], None] | None = None
) -> list[FootageFrame]:
    """Take `count` frames of all clips, as many of each as its length allows, evenly over its length.

    Raises:
        ImportInputError: There is no clip, no frame is wanted, more are than `MAX_HELD_BYTES` holds, or a file cannot
            be read.
    """
    if not clips:
        raise ImportInputError("no clip to take frames from; give videos, pictures or folders of them")
    if count < 1:
        raise ImportInputError(f"the number of frames is {count}; allowed is 1 or more")
    lengths = [clip_length(clip) for clip in clips]
    check_memory(min(count, sum(lengths)), spec)
    frames: list[FootageFrame] = []
    for clip, length, share in zip(clips, lengths, _shares(lengths, count), strict=True):
        wanted = [(2 * i + 1) * length // (2 * share) for i in range(share)]
        found = read_at(clip, wanted, spec)
        if len(found) < len(wanted) and say is not None:
            say(f"clip {clip.name}: {len(wanted) - len(found)} of {len(wanted)} frames cannot be decoded")
        frames += found
    return frames


def check_memory(count: int, spec: InputSpec) -> None:
    """Refuse before the work what would not fit into memory after it.

    Raises:
        ImportInputError: So many frames take more than `MAX_HELD_BYTES`.
    """
    each = spec.width * spec.height * 3
    if count * each > MAX_HELD_BYTES:
        raise ImportInputError(
            f"{count} frames of {spec.width}x{spec.height} take {count * each / 1e9:.1f} GB of memory; allowed is "
            f"{MAX_HELD_BYTES / 1e9:.1f} GB, {MAX_HELD_BYTES // each} frames: lower --calibration-frames or "
            "--validation-frames (--auto-exclude takes three times as many to calibrate)"
        )


def clip_length(clip: Clip) -> int:
    """Count the frames of a clip; of a video without decoding it.

    Raises:
        ImportInputError: It cannot be read.
    """
    if clip.pictures:
        return len(clip.pictures)
    try:
        with av.open(str(clip.path)) as container:
            return max(1, sum(packet.size > 0 for packet in container.demux(video=0)))
    except (FFmpegError, OSError, IndexError) as error:
        raise _unreadable(clip.path, error) from error


def read_at(clip: Clip, indices: Sequence[int], spec: InputSpec) -> list[FootageFrame]:
    """Take the frames with these numbers, in rising order; numbers beyond what can be decoded give nothing.

    Raises:
        ImportInputError: It cannot be read: nothing of a video can be decoded, or one of the pictures cannot.
    """
    if not clip.pictures:
        return [_frame(clip, index, frame, spec) for index, frame in _decode(clip.path, sorted(set(indices)))]
    frames: list[FootageFrame] = []
    for index in sorted(set(indices)):
        if not 0 <= index < len(clip.pictures):
            continue
        frames += [_frame(clip, index, frame, spec) for _, frame in _decode(clip.pictures[index], [0])]
    return frames


def _frame(clip: Clip, index: int, frame: av.VideoFrame, spec: InputSpec) -> FootageFrame:
    label = f"{clip.name}/{clip.pictures[index].name}" if clip.pictures else f"{clip.name} frame {index}"
    place = Letterbox.of(frame.width, frame.height, spec)
    return FootageFrame(Sample(label, letterbox(frame, spec), real=True), clip, index, place)


def _decode(file: Path, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode the frames with these rising numbers, counted from the file's beginning.

    Far apart, they are gone to by their time; where times do not tell a frame's number, all before it are decoded.
    """
    times = _times(file) if indices[-1] > FAR * len(indices) else ()
    done = 0
    for index, frame in _sought(file, indices, times) if times else ():
        yield index, frame
        done += 1
    if done < len(indices):
        yield from _decode_all(file, indices[done:])


def _times(file: Path) -> Sequence[int]:
    """Tell the times of all frames in the order in which they are shown; nothing where a packet has none."""
    try:
        with av.open(str(file)) as container:
            packets = [packet.pts for packet in container.demux(video=0) if packet.size > 0]
            times = sorted(time for time in packets if time is not None)
    except (FFmpegError, OSError, IndexError):
        return ()
    return times if len(times) == len(packets) == len(set(times)) else ()


def _decode_here(stream: av.VideoStream) -> None:
    """Decode on the caller's thread.

    Threads of FFmpeg that still work on pictures when a decoder is let go log what they meet; where Python takes these
    messages they wait for the interpreter, which waits for them: PyAV lets go of decoders with it held.
    """
    stream.codec_context.thread_count = 1


def _sought(file: Path, indices: Sequence[int], times: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Go to each frame by its time; ends early where the times turn out not to be the frames'."""
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            _decode_here(stream)
            # An edit list or a damaged beginning shifts the count: then the first frames are not the first times.
            first = [frame.pts for frame, _ in zip(container.decode(stream), range(_COUNTED), strict=False)]
            if first != list(times[: len(first)]):
                return
            for index in indices:
                if index >= len(times):
                    return
                container.seek(times[index], stream=stream)
                for frame in container.decode(stream):
                    if frame.pts is None or frame.pts > times[index]:
                        return
                    if frame.pts == times[index]:
                        yield index, frame
                        break
    except (FFmpegError, OSError, IndexError):
        return


def _decode_all(file: Path, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode a file from its beginning as far as the last number."""
    wanted = set(indices)
    decoded = 0
    try:
        with av.open(str(file)) as container:
            _decode_here(container.streams.video[0])
            for frame in container.decode(video=0):
                if decoded in wanted:
                    yield decoded, frame
                decoded += 1
                if decoded > indices[-1]:
                    return
    except (FFmpegError, OSError, IndexError) as error:
        if not decoded:
            raise _unreadable(file, error) from error
    if not decoded:
        raise _unreadable(file, "nothing in it can be decoded")


def _unreadable(file: Path, reason: object) -> ImportInputError:
    return ImportInputError(f"{file}: cannot be read as a video or picture: {reason}")


def _shares(lengths: Sequence[int], count: int) -> list[int]:
    """Share out `count` frames as evenly as the lengths allow; what a short clip leaves goes to the others."""
    shares = [0] * len(lengths)
    left = min(count, sum(lengths))
    while left:
        open_clips = [i for i, length in enumerate(lengths) if shares[i] < length]
        # Fewer frames than clips: every so many-th clip, not the first ones.
        if left < len(open_clips):
            open_clips = [open_clips[(2 * k + 1) * len(open_clips) // (2 * left)] for k in range(left)]
        each = max(1, left // len(open_clips))
        for i in open_clips:
            given = min(each, lengths[i] - shares[i])
            shares[i] += given
            left -= given
    return shares
