"""A PyNvVideoCodec that is none: its documented interface over FFmpeg and a simulated device.

Written from the library's samples, its guide and the sources of its bindings (2.2). It imitates what a user of the core
decoder must not get wrong:

- packets need start codes, and their parameter sets in the stream: it is never shown extradata;
- without ENDOFPICTURE a packet waits for the next one; NATIVE holds one picture more than the stream's reordering asks;
- pictures lie in a stock of buffers that every call of Decode uses again from the first on, written in the decoder's
  stream and not a moment earlier;
- the session is set up by the first Decode: that, and not CreateDecoder, refuses codecs, depths and sizes;
- other sizes in mid-stream are scaled to the first one's, larger ones refused, so are other depths;
- an empty packet is the end of the stream, after which the parser has forgotten all;
- damage is not reported.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import av
import av.logging
import numpy as np

from support_cuda_kernels import KERNELS
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.cuda.simulated_stream import Use
from vedette_server.decode.figures import DecoderFigures
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.nvdec import Nvdec
from vedette_server.decode.padded import padded_packet
from vedette_server.decode.video import VideoDecoder
from vedette_server.picture.scratch import plane_views, wide_plane_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from support_video import Clip
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoded

LIMITS = PictureLimits(4096, 2160)
NAMES = {"H264": "h264", "HEVC": "hevc", "AV1": "libdav1d", "VP9": "libvpx-vp9", "MPEG4": "mpeg4"}
ENOUGH = 1 << 30


class UnsupportedError(Exception):
    """The library's PyNvVCExceptionUnsupported."""


class PacketData:
    """The library's PacketData: made empty, filled by whoever uses it."""

    def __init__(self) -> None:
        self.bsl = self.bsl_data = self.pts = self.dts = self.decode_flag = 0


@dataclass
class View:
    """One plane, as `DecodedFrame.cuda()` gives it."""

    shape: tuple[int, ...]


class DecodedFrame:
    """A picture in the decoder's stock."""

    def __init__(self, address: int, size: tuple[int, int], form: Any, sample: int, timestamp: int) -> None:
        width, height = size
        self.format = form
        self.timestamp = timestamp
        self._planes = (address, address + width * height * sample)
        self._views = [View((height, width, 1)), View((height // 2, width // 2, 2))]

    def getPTS(self) -> int:  # noqa: N802
        return self.timestamp

    def cuda(self) -> list[View]:
        return self._views

    def GetPtrToPlane(self, index: int) -> int:  # noqa: N802
        return self._planes[index]


@dataclass
class FakeNvc:
    """The module.

    Attributes:
        devices: The GPUs.
        engines: Decoders of each GPU.
        codecs: What it decodes, by name: the depths.
        least: Smallest picture.
        most: Largest picture.
        sessions: Most sessions of a GPU; one more is refused by its first Decode.
        fail_after: How many packets a session decodes before it fails, by the number of the session; None: all.
        refuse: CreateDecoder fails.
        silent: It forgets to give pictures of these packets, counted in each session.
    """

    devices: dict[int, SimulatedDevice]
    engines: int = 2
    codecs: dict[str, tuple[int, ...]] = field(
        default_factory=lambda: {"H264": (8,), "HEVC": (8, 10), "AV1": (8, 10), "VP9": (8, 10), "MPEG4": (8,)}
    )
    least: tuple[int, int] = (48, 16)
    most: tuple[int, int] = (4096, 4096)
    sessions: int = 64
    fail_after: Callable[[int], int | None] = lambda _: None
    refuse: bool = False
    silent: frozenset[int] = frozenset()
    latencies: list[str] = field(default_factory=list)
    asked: list[tuple[int, str, int]] = field(default_factory=list)
    open: Counter[int] = field(default_factory=Counter)
    made: int = 0

    cudaVideoCodec = enum.Enum("cudaVideoCodec", list(NAMES))  # noqa: N815
    Pixel_Format = enum.Enum("Pixel_Format", ["NV12", "YUV444", "P016"])
    DisplayDecodeLatencyType = enum.Enum("DisplayDecodeLatencyType", ["NATIVE", "LOW", "ZERO"])
    VideoPacketFlag = enum.IntEnum("VideoPacketFlag", {"ENDOFSTREAM": 1, "TIMESTAMP": 2, "ENDOFPICTURE": 8})
    PacketData = PacketData

    def GetDecoderCaps(self, *, gpuid: int = 0, codec: Any, bitdepth: int = 8) -> dict[str, int]:  # noqa: N802
        self.asked.append((gpuid, codec.name, bitdepth))
        return {
            "supported": int(bitdepth in self.codecs.get(codec.name, ())),
            "num_decoder_engines": self.engines,
            "width_min": self.least[0],
            "height_min": self.least[1],
            "width_max": self.most[0],
            "height_max": self.most[1],
            "mb_num_max": self.most[0] * self.most[1] // 256,
        }

    def CreateDecoder(self, **arguments: Any) -> FakeDecoder:  # noqa: N802
        if self.refuse:
            raise RuntimeError("PyNvDecoder constructor failed")
        wanted = {"gpuid", "codec", "cudacontext", "cudastream", "usedevicememory", "latency"}
        assert set(arguments) == wanted
        assert arguments["usedevicememory"] is True
        self.made += 1
        self.latencies.append(arguments["latency"].name)
        return FakeDecoder(self, self.made, arguments)


class FakeDecoder:
    """One session."""

    def __init__(self, module: FakeNvc, number: int, arguments: dict[str, Any]) -> None:
        self._module = module
        self._gpu = arguments["gpuid"]
        self._device = module.devices[self._gpu]
        self._stream = self._device.stream_of(arguments["cudastream"])
        self._codec = arguments["codec"].name
        self._extra = 0 if arguments["latency"].name == "LOW" else 1
        self._stock: list[Any] = []
        self._context = self._new_context()
        self._unfinished: tuple[bytes, int] | None = None
        self._late: list[Any] = []
        self._first: tuple[int, int, str] | None = None
        self._left = module.fail_after(number)
        self._count = 0
        self._alive = False

    def Decode(self, packet: PacketData) -> list[DecodedFrame]:  # noqa: N802
        if not packet.bsl:
            return self._end()
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise RuntimeError("cuvidDecodePicture returned CUDA_ERROR_UNKNOWN")
        self._set_up()
        data = ctypes.string_at(packet.bsl_data, packet.bsl)
        given = (data, packet.pts)
        if packet.decode_flag & 8:
            ready = [given]
        else:
            ready, self._unfinished = ([] if self._unfinished is None else [self._unfinished]), given
        frames = [frame for data, pts in ready for frame in self._decode(data, pts)]
        self._late += frames
        frames, self._late = self._late[: len(self._late) - self._extra], self._late[-self._extra :] * bool(self._extra)
        return self._put(frames)

    def _end(self) -> list[DecodedFrame]:
        frames = self._late
        if self._unfinished is not None:
            frames += self._decode(*self._unfinished)
        with contextlib.suppress(av.FFmpegError):
            frames += self._context.decode(None)
        self._late, self._unfinished, self._context = [], None, self._new_context()
        return self._put(frames)

    def _decode(self, data: bytes, pts: int) -> list[Any]:
        if self._codec in {"H264", "HEVC"}:
            assert data.startswith((b"\0\0\1", b"\0\0\0\1")) or b"\0\0\1" in data
        packet = padded_packet(data)
        packet.opaque = pts
        self._count += 1
        with av.logging.Capture():
            try:
                frames = self._context.decode(packet)
            except (av.FFmpegError, ValueError, MemoryError):
                return []
        return [] if self._count in self._module.silent else frames

    def _set_up(self) -> None:
        if not self._alive:
            if self._module.open[self._gpu] >= self._module.sessions:
                raise UnsupportedError("cuvidCreateDecoder returned CUDA_ERROR_OUT_OF_MEMORY")
            self._module.open[self._gpu] += 1
            self._alive = True

    def _new_context(self) -> Any:
        context = av.CodecContext.create(NAMES[self._codec], "r")
        context.thread_count = 1
        context.copy_opaque = True
        return context

    def _put(self, frames: list[Any]) -> list[DecodedFrame]:
        return [
            self._write(index, self._checked(frame))
            for index, frame in enumerate(frame for frame in frames if frame.opaque is not None)
        ]

    def _checked(self, frame: Any) -> Any:
        layout = {"yuvj420p": "yuv420p"}.get(frame.format.name, frame.format.name)
        found = (frame.width, frame.height, layout)
        self._first = self._first or found
        width, height, first_layout = self._first
        if layout != first_layout or layout not in {"yuv420p", "yuv420p10le"}:
            raise RuntimeError("Reconfigure Not supported for bit depth change")
        if found[0] > width or found[1] > height:
            raise RuntimeError("Reconfigure Not supported when width/height > maxwidth/maxheight")
        if found == self._first:
            return frame
        scaled = frame.reformat(width, height)
        scaled.opaque = frame.opaque
        return scaled

    def _write(self, index: int, frame: Any) -> DecodedFrame:
        wide = frame.format.name == "yuv420p10le"
        width, height, sample = frame.width + frame.width % 2, frame.height, 2 if wide else 1
        rows = height + (height + 1) // 2
        picture = np.zeros((rows, width), np.uint16 if wide else np.uint8)
        luma, u, v = wide_plane_views(frame) if wide else plane_views(frame)
        picture[:height, : luma.shape[1]] = luma
        picture[height:, : u.shape[1] * 2 : 2] = u
        picture[height:, 1 : u.shape[1] * 2 : 2] = v
        if wide:
            picture <<= 6
        flat = picture.reshape(-1).view(np.uint8)
        if index == len(self._stock):
            self._stock.append(self._device.allocate(flat.size))
        memory = self._stock[index]

        def write() -> None:
            memory.array[:] = flat

        self._stream.work("nvdec", lambda: 1e-3, (Use(memory, 0, flat.size, writes=True),), write)
        form = self._module.Pixel_Format.P016 if wide else self._module.Pixel_Format.NV12
        return DecodedFrame(memory.address, (width, height), form, sample, frame.opaque)

    def __del__(self) -> None:
        if self._alive:
            self._module.open[self._gpu] -= 1
        with contextlib.suppress(CudaError):
            for buffer in self._stock:
                buffer.close()


@dataclass
class Hardware:
    """GPUs that are not there, and what opens sessions on them."""

    module: FakeNvc
    nvdec: Nvdec
    figures: DecoderFigures

    def decoder(self, source: Clip, limits: PictureLimits = LIMITS) -> VideoDecoder:
        return VideoDecoder(source.fmt, limits, self.nvdec.chooser(source.fmt, limits))

    def run(
        self,
        source: Clip,
        packets: Iterable[Packet],
        step: Callable[[VideoDecoder, Packet], Iterable[Decoded]] = VideoDecoder.decode,
    ) -> Any:
        """Decode with a fresh decoder; checks that each packet is answered exactly once, and that all is given back."""
        from support_video import collect  # noqa: PLC0415

        decoder = self.decoder(source)
        fed, answers = 0, []
        for packet in packets:
            fed += 1
            answers += step(decoder, packet)
        answers += decoder.flush()
        decoder.close()
        outcome = collect(answers)
        assert len(outcome.order) == fed
        assert len(set(outcome.order)) == fed
        assert not any(self.module.open.values())
        return outcome


@contextlib.contextmanager
def hardware(
    gpus: int = 1, surface_bytes: int = ENOUGH, memory_bytes: int = ENOUGH, **changes: Any
) -> Iterator[Hardware]:
    """Make GPUs; afterwards nothing may be left open on them, and no misuse of streams and memory is forgiven."""
    devices = {
        number: SimulatedDevice(memory_bytes=memory_bytes, index=number, kernels=KERNELS) for number in range(gpus)
    }
    module, figures = FakeNvc(devices, **changes), DecoderFigures()
    nvdec = Nvdec(module, range(gpus), devices.__getitem__, surface_bytes, figures)
    yield Hardware(module, nvdec, figures)
    nvdec.close()
    nvdec.close()
    for device in devices.values():
        device.close()
