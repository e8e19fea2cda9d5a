"""A plan, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_engines.manifest import PlanInfo


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was built, not yet written anywhere.

    Attributes:
        content: Its bytes.
        info: What it was built with.
        seconds: What building took.
        layers: TensorRT's account of its layers, JSON; None where there is no GPU to load it on.
        notes: What the build found worth saying.
    """

    content: bytes
    info: PlanInfo
    seconds: float
    layers: str | None = None
    notes: tuple[str, ...] = ()
