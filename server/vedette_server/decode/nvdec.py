"""The video engines of this machine's GPUs: what they can decode, who uses them, and when the CPU does it instead.

A stream is decoded on a GPU where the library loads, the GPU's decoder takes its codec, depth and size, and a session
opens; the GPU with the least to decode for each of its engines gets it. Else the CPU decodes, and says why. A session
that fails in mid-stream costs the pictures up to the next keyframe, and the channel stays on the CPU from then on. What
decodes is chosen anew only where decoding begins anew.

How many engines a GPU has, which codecs and which sizes, is asked of the driver (`GetDecoderCaps`), once for each
codec and depth; in a machine with unlike GPUs the library (2.2) tells of the first one whichever is asked. Sessions are
limited by memory alone.

Not run on hardware: see `nvdec_backend.py`.

Threads: any; one lock.
"""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import EnginesError, MissingRuntimeError
from vedette_server.data.format import Codec
from vedette_server.decode.nvdec_backend import NvdecBackend
from vedette_server.decode.nvdec_facts import probe
from vedette_server.decode.nvdec_surfaces import SurfacePool
from vedette_server.decode.software import SoftwareBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Device
    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.backend import Backend, Start
    from vedette_server.decode.figures import DecoderFigures
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.decode.nvdec_facts import StreamFacts

_log = logging.getLogger(__name__)

# Surfaces of a decoder: H.264's and HEVC's references, and what the library adds.
_SURFACES = 24
_SPARE_BYTES = 256 << 20
# A stream that cannot begin so often is left to the CPU.
_MOST_STARTS = 2


class FallbackError(Exception):
    """The CPU has to decode.

    Args:
        cause: One word, for figures: `codec`, `layout`, `size`, `probe`, `memory`, `open`, `failed`.
        why: In words.
    """

    def __init__(self, cause: str, why: str) -> None:
        super().__init__(why)
        self.cause = cause


def import_library() -> Any:
    """Import PyNvVideoCodec.

    Raises:
        MissingRuntimeError: It is not installed, or finds no driver; the message says which.
    """
    try:
        return importlib.import_module("PyNvVideoCodec")
    except ImportError as error:
        raise MissingRuntimeError(f"PyNvVideoCodec cannot be imported: {error}; the extra `nvdec` brings it") from error
    except Exception as error:  # it raises RuntimeError where the driver's libraries are missing
        raise MissingRuntimeError(f"PyNvVideoCodec does not load here: {str(error).splitlines()[0]}") from error


@dataclass(slots=True)
class _Gpu:
    device: Device
    pool: SurfacePool
    caps: dict[tuple[Codec, int], dict[str, int]] = field(default_factory=dict)
    sessions: int = 0
    pixels: int = 0


class Nvdec:
    """Opens sessions on the GPUs.

    Args:
        module: PyNvVideoCodec, or what stands for it.
        gpus: Numbers of the GPUs.
        device: Opens a GPU; whoever gave it closes it, after this object.
        surface_bytes: Most memory of each GPU for pictures that wait.
        figures: Counts.
    """

    def __init__(
        self,
        module: Any,
        gpus: Sequence[int],
        device: Callable[[int], Device],
        surface_bytes: int,
        figures: DecoderFigures,
    ) -> None:
        self.figures = figures
        self._module = module
        self._numbers = tuple(gpus)
        self._device = device
        self._surface_bytes = surface_bytes
        self._lock = threading.Lock()
        self._gpus: dict[int, _Gpu] = {}

    def chooser(self, fmt: VideoFormat, limits: PictureLimits) -> NvdecChooser:
        """Make what chooses for one stream."""
        return NvdecChooser(self, fmt, limits)

    def engines(self, gpu: int, codec: Codec = Codec.H264) -> int:
        """Tell how many decoders a GPU has.

        Raises:
            FallbackError: It cannot be asked.
        """
        with self._lock:
            return self._caps(self._open_gpu(gpu), codec, 8).get("num_decoder_engines", 0)

    def open(self, facts: StreamFacts, start: Start) -> NvdecBackend:
        """Open a session for a stream.

        Raises:
            FallbackError: The CPU has to decode it.
        """
        with self._lock:
            gpu = self._pick(facts, start.fmt.codec)
            gpu.sessions += 1
            gpu.pixels += facts.width * facts.height
        try:
            return self._session(gpu, facts, start)
        except FallbackError:
            self._ended(gpu, facts)
            raise

    def close(self) -> None:
        """Give the GPUs' memory back, after all streams; may be called twice."""
        with self._lock:
            gpus, self._gpus = tuple(self._gpus.values()), {}
        for gpu in gpus:
            gpu.pool.close()

    def _session(self, gpu: _Gpu, facts: StreamFacts, start: Start) -> NvdecBackend:
        module = self._module
        latencies = module.DisplayDecodeLatencyType
        try:
            with gpu.device.attached():
                stream = gpu.device.stream()
                try:
                    decoder = module.CreateDecoder(
                        gpuid=gpu.device.facts.index,
                        codec=getattr(module.cudaVideoCodec, start.fmt.codec.name),
                        # None of ours: the library retains the primary context, in which the stream is.
                        cudacontext=0,
                        cudastream=stream.handle,
                        usedevicememory=True,
                        latency=latencies.NATIVE if facts.reorder_depth else latencies.LOW,
                    )
                except BaseException:
                    stream.close()
                    raise
        except Exception as error:  # the library raises classes of its own, and RuntimeError
            raise FallbackError("open", f"no session opens: {error}") from error
        return NvdecBackend(module, decoder, stream, gpu.pool, facts, start, on_close=lambda: self._ended(gpu, facts))

    def _ended(self, gpu: _Gpu, facts: StreamFacts) -> None:
        with self._lock:
            gpu.sessions -= 1
            gpu.pixels -= facts.width * facts.height

    def _pick(self, facts: StreamFacts, codec: Codec) -> _Gpu:
        """Find the GPU with the least to decode for each of its engines, of those that can take a stream."""
        able: list[tuple[float, int, _Gpu]] = []
        refused: FallbackError | None = None
        for number in self._numbers:
            try:
                gpu = self._open_gpu(number)
                caps = self._caps(gpu, codec, facts.bits)
                _check_caps(caps, facts, codec)
                _check_memory(gpu.device, facts)
            except FallbackError as error:
                refused = error
                continue
            able.append((gpu.pixels / max(caps.get("num_decoder_engines", 1), 1), number, gpu))
        if not able:
            raise refused or FallbackError("open", "there is no GPU")
        return min(able, key=lambda entry: entry[:2])[2]

    def _open_gpu(self, number: int) -> _Gpu:
        found = self._gpus.get(number)
        if found is None:
            try:
                device = self._device(number)
            except EnginesError as error:
                raise FallbackError("open", f"GPU {number} cannot be opened: {error}") from error
            found = self._gpus[number] = _Gpu(device, SurfacePool(device, self._surface_bytes))
        return found

    def _caps(self, gpu: _Gpu, codec: Codec, bits: int) -> dict[str, int]:
        key = (codec, bits)
        if key not in gpu.caps:
            number = gpu.device.facts.index
            wanted = getattr(self._module.cudaVideoCodec, codec.name)
            try:
                found = self._module.GetDecoderCaps(gpuid=number, codec=wanted, bitdepth=bits)
            except Exception as error:  # the library raises classes of its own, and RuntimeError
                raise FallbackError("open", f"GPU {number} does not tell what it decodes: {error}") from error
            gpu.caps[key] = {name: int(value) for name, value in found.items()}
            _log.info("GPU %d decodes %s of %d bits: %s", number, codec.name, bits, gpu.caps[key])
        return gpu.caps[key]


def _check_memory(device: Device, facts: StreamFacts) -> None:
    need = _SURFACES * facts.width * facts.height * 3 // 2 * (2 if facts.bits > 8 else 1) + _SPARE_BYTES
    try:
        with device.attached():
            free = device.free_bytes()
    except CudaError as error:
        raise FallbackError("open", f"GPU {device.facts.index} is of no use: {error}") from error
    if free < need:
        raise FallbackError(
            "memory", f"GPU {device.facts.index} has {free >> 20} MiB left; a session needs {need >> 20}"
        )


def _check_caps(caps: dict[str, int], facts: StreamFacts, codec: Codec) -> None:
    if not caps.get("supported"):
        raise FallbackError("codec", f"the GPU does not decode {codec.name} of {facts.bits} bits")
    least = caps.get("width_min", 0), caps.get("height_min", 0)
    most = caps.get("width_max", 0), caps.get("height_max", 0)
    blocks = -(-facts.width // 16) * -(-facts.height // 16)
    if not (least[0] <= facts.width <= most[0] and least[1] <= facts.height <= most[1]) or blocks > caps.get(
        "mb_num_max", blocks
    ):
        raise FallbackError(
            "size",
            f"the GPU decodes {codec.name} from {least[0]}x{least[1]} to {most[0]}x{most[1]}, "
            f"not {facts.width}x{facts.height}",
        )


class NvdecChooser:
    """Chooses what decodes one stream; see the module.

    Args:
        nvdec: Opens sessions.
        fmt: The stream's coding.
        limits: The largest picture that is decoded.
    """

    def __init__(self, nvdec: Nvdec, fmt: VideoFormat, limits: PictureLimits) -> None:
        self._nvdec = nvdec
        self._fmt = fmt
        self._limits = limits
        self._facts: tuple[tuple[object, ...], StreamFacts] | None = None
        self._starts = 0
        self._told = ""
        self._barred = False
        self._reorders = False
        self._counted = nvdec.figures.opened(fmt.codec.name, "cpu")

    def choose(self, current: Backend, start: Start) -> Backend:
        """Choose where decoding begins anew."""
        if self._barred:
            return current
        try:
            facts = self._learn(current, start)
            if isinstance(current, NvdecBackend) and (current.facts, current.extradata) == (facts, start.extradata):
                current.adopt(start)
                return current
            found = self._nvdec.open(facts, start)
        except FallbackError as error:
            self._fall_back(error)
            return current if isinstance(current, SoftwareBackend) else self._software(start)
        self._count(f"nvdec:{found.gpu}")
        return found

    def lost(self, backend: Backend, why: str, start: Start | None) -> Backend:
        """Go over to the CPU: for good after a failure in mid-stream, or several at the beginning."""
        self._starts += 1
        self._barred = start is None or self._starts >= _MOST_STARTS
        self._fall_back(FallbackError("failed" if start is None else "open", why))
        extradata = backend.extradata if isinstance(backend, NvdecBackend) else self._fmt.extradata
        self._count("cpu")
        return SoftwareBackend(self._fmt, extradata, self._limits)

    def close(self) -> None:
        """Tell that the stream is over; may be called twice."""
        self._barred = True
        self._counted()

    def _learn(self, current: Backend, start: Start) -> StreamFacts:
        if isinstance(current, NvdecBackend):
            self._reorders = self._reorders or current.reorders
        unit = start.unit
        key = (start.extradata, unit.parameters or start.parameters, unit.width, unit.height)
        if self._facts is None or self._facts[0] != key:
            facts = probe(start, self._limits)
            if facts is None:
                raise FallbackError("probe", "its first picture tells nothing")
            self._facts = key, facts
        facts = self._facts[1]
        if not facts.bits:
            raise FallbackError("layout", f"pictures are {facts.layout}; NVDEC's are taken as NV12 and P010")
        if self._reorders or start.reorders:
            return replace(facts, reorder_depth=max(facts.reorder_depth, 1))
        return facts

    def _software(self, start: Start) -> Backend:
        self._count("cpu")
        return SoftwareBackend(self._fmt, start.extradata, self._limits)

    def _fall_back(self, error: FallbackError) -> None:
        self._nvdec.figures.fell_back(self._fmt.codec.name, error.cause)
        # The same at every keyframe would fill the log.
        if self._told != error.cause:
            self._told = error.cause
            _log.warning("a %s stream is decoded on the CPU: %s", self._fmt.codec.name, error)

    def _count(self, decoder: str) -> None:
        self._counted()
        self._counted = self._nvdec.figures.opened(self._fmt.codec.name, decoder)
