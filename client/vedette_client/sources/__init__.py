"""Where pictures come from: files, URLs, webcams, stills and synthetic scenes."""

from vedette_client.sources.base import Source, SourceFormat, SourcePacket
from vedette_client.sources.opening import open_source

__all__ = ["Source", "SourceFormat", "SourcePacket", "open_source"]
