"""Pick the decoder that fits a stream's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.format import Codec

if TYPE_CHECKING:
    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.base import Decoder
    from vedette_server.decode.limits import PictureLimits


def open_decoder(fmt: VideoFormat, limits: PictureLimits) -> Decoder:
    """Open a decoder for one channel.

    A decoder's libraries are imported when the first channel wants them: a server of stills never
    pays for FFmpeg, nor one of video for the still decoders.

    Raises:
        InvalidError: The format says what no decoder can be opened with.
        PictureTooLargeError: The format already tells that the pictures are over the limit.
    """
    limits.check(fmt.width, fmt.height)
    if fmt.codec is Codec.RAW:
        from vedette_server.decode.raw import RawDecoder  # noqa: PLC0415

        return RawDecoder(fmt, limits)
    if fmt.codec.is_still:
        from vedette_server.decode.still import StillDecoder  # noqa: PLC0415

        return StillDecoder(fmt, limits)
    from vedette_server.decode.video import VideoDecoder  # noqa: PLC0415

    return VideoDecoder(fmt, limits)
