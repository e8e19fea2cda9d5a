"""Pick the judge of references that fits a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.format import Codec
from vedette_server.decode.references import H264References

if TYPE_CHECKING:
    from vedette_server.decode.references import References


def open_references(codec: Codec) -> References:
    """Begin to judge the references of one stream."""
    return {Codec.H264: H264References}[codec]()
