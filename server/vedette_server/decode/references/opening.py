"""Pick the judge of references that fits a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.format import Codec
from vedette_server.decode.references.av1 import Av1References
from vedette_server.decode.references.h264 import H264References
from vedette_server.decode.references.hevc import HevcReferences
from vedette_server.decode.references.mpeg4 import Mpeg4References
from vedette_server.decode.references.vp9 import Vp9References

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.decode.references.base import References

_JUDGES: dict[Codec, Callable[[], References]] = {
    Codec.H264: H264References,
    Codec.HEVC: HevcReferences,
    Codec.AV1: Av1References,
    Codec.VP9: Vp9References,
    Codec.MPEG4: Mpeg4References,
}


def open_references(codec: Codec) -> References:
    """Begin to judge the references of one stream.

    Raises:
        KeyError: The codec is no video codec.
    """
    return _JUDGES[codec]()
