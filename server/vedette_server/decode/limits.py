"""How large a stream's pictures may be."""

from __future__ import annotations

from dataclasses import dataclass

from vedette_server.errors import PictureTooLargeError


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The largest picture that a decoder accepts, as it is coded, before rotation.

    Attributes:
        max_width: In pixels.
        max_height: In pixels.
    """

    max_width: int = 7680
    max_height: int = 4320

    def check(self, width: int, height: int) -> None:
        """Refuse a picture over the limit.

        Raises:
            PictureTooLargeError: Width or height is over the limit.
        """
        if width <= self.max_width and height <= self.max_height:
            return
        raise PictureTooLargeError(
            "PICTURE_TOO_LARGE",
            f"the stream's pictures are {width}x{height}; at most {self.max_width}x{self.max_height} is allowed",
            width=str(width),
            height=str(height),
            max_width=str(self.max_width),
            max_height=str(self.max_height),
        )
