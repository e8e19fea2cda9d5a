"""Sets of names that a newer server may know more of."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

Known = TypeVar("Known", bound="Numbered")


class Numbered(IntEnum):
    """Names of the contract's numbers; a number that is not known here is kept, as `UNKNOWN_{number}`."""

    @classmethod
    def _missing_(cls: type[Known], value: object) -> Known | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member

    @property
    def word(self) -> str:
        """The name as people and files have it, in lower case."""
        return self.name.lower()
