"""Pick the decoder that fits a stream's format, and say whether a GPU may be it."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import EnginesError
from vedette_server.data.format import Codec
from vedette_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Device
    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.backend import Chooser
    from vedette_server.decode.base import Decoder
    from vedette_server.decode.figures import DecoderFigures
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.decode.nvdec import Nvdec
    from vedette_server.settings import DecodeSettings

_log = logging.getLogger(__name__)

_IMPORTING = threading.Lock()


class Decoders:
    """Opens the decoders of a server's channels.

    Args:
        limits: The largest picture that is decoded.
        figures: Counts them.
        nvdec: The GPUs' video engines; None: the CPU decodes all.
        always: A GPU decodes also for engines that take their pictures from the CPU.
    """

    def __init__(
        self, limits: PictureLimits, figures: DecoderFigures, nvdec: Nvdec | None = None, *, always: bool = False
    ) -> None:
        self._limits = limits
        self._figures = figures
        self._nvdec = nvdec
        self._always = always

    def open(self, fmt: VideoFormat, *, on_device: bool = False) -> Decoder:
        """Open a decoder for one channel.

        Args:
            fmt: The coding of its packets.
            on_device: Its pictures are letterboxed on a GPU.

        Raises:
            InvalidError: The format says what no decoder can be opened with.
            PictureTooLargeError: The format already tells that the pictures are over the limit.
        """
        if fmt.codec.is_intra:
            return open_decoder(fmt, self._limits)
        if self._nvdec is not None and (on_device or self._always):
            return open_decoder(fmt, self._limits, self._nvdec.chooser(fmt, self._limits))
        _import_alone("software")
        from vedette_server.decode.software import CpuChooser  # noqa: PLC0415 - see `open_decoder`

        closed = self._figures.opened(fmt.codec.name, "cpu")
        try:
            return open_decoder(fmt, self._limits, CpuChooser(fmt, self._limits, closed))
        except BaseException:
            closed()
            raise

    def close(self) -> None:
        """Give the GPUs' memory back, after all decoders; may be called twice."""
        if self._nvdec is not None:
            self._nvdec.close()


def open_decoder(fmt: VideoFormat, limits: PictureLimits, chooser: Chooser | None = None) -> Decoder:
    """Open a decoder for one channel.

    A decoder's libraries are imported when the first channel wants them: a server of stills never
    pays for FFmpeg, nor one of video for the still decoders.

    Args:
        fmt: The coding of its packets.
        limits: The largest picture that is decoded.
        chooser: Chooses what decodes video; None: the CPU does.

    Raises:
        InvalidError: The format says what no decoder can be opened with.
        PictureTooLargeError: The format already tells that the pictures are over the limit.
    """
    limits.check(fmt.width, fmt.height)
    if fmt.codec is Codec.RAW:
        _import_alone("raw")
        from vedette_server.decode.raw import RawDecoder  # noqa: PLC0415

        return RawDecoder(fmt, limits)
    if fmt.codec.is_still:
        _import_alone("still")
        from vedette_server.decode.still import StillDecoder  # noqa: PLC0415

        return StillDecoder(fmt, limits)
    _import_alone("video")
    from vedette_server.decode.video import VideoDecoder  # noqa: PLC0415

    return VideoDecoder(fmt, limits, chooser)


def _import_alone(name: str) -> None:
    """Import what may import FFmpeg's modules, in one thread at a time.

    They import each other. When the cameras of a restarted server open their decoders at once, Python lets a second
    thread that imports in another order see half a module, rather than have both wait for ever.
    """
    with _IMPORTING:
        importlib.import_module(f"vedette_server.decode.{name}")


def open_nvdec(
    settings: DecodeSettings,
    figures: DecoderFigures,
    gpus: Callable[[], Sequence[int]],
    device: Callable[[int], Device],
    *,
    letterboxes: bool,
    load: Callable[[], Any] | None = None,
) -> Nvdec | None:
    """Find the GPUs' video engines, as the settings want it.

    Args:
        settings: What is to decode.
        figures: Counts decoders.
        gpus: Tells the numbers of the GPUs that are there.
        device: Opens one; closed by whoever gave it, later.
        letterboxes: GPUs letterbox for the engines; else `auto` leaves decoding to the CPU.
        load: Imports PyNvVideoCodec; None: as it is installed.

    Returns:
        None: the CPU decodes.

    Raises:
        SettingsError: `decode.device` says nvdec, and there is none.
    """
    if settings.device == "cpu" or (settings.device == "auto" and not letterboxes):
        return None
    # Only where it is wanted: a server without GPUs has nothing to do with it.
    from vedette_server.decode.nvdec import Nvdec, import_library  # noqa: PLC0415

    try:
        module = (load or import_library)()
        numbers = tuple(gpus())
        reason = "" if numbers else "there is no GPU"
    except EnginesError as error:
        module, numbers, reason = None, (), str(error)
    if reason:
        if settings.device == "nvdec":
            raise SettingsError(f"decode.device is nvdec: {reason}")
        _log.info("video is decoded on the CPU: %s", reason)
        return None
    return Nvdec(module, numbers, device, settings.surface_bytes, figures)
