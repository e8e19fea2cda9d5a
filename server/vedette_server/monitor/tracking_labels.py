"""Which labels may be of one and the same object, and which label a track has.

A detector calls one car a truck now and then; it does not take a person for a car. Labels of one family are tracked as
one, and the label seen most, weighed by scores, is the track's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Names as COCO, Open Images, VisDrone and makers of cameras give them. A label of no family is one of its own.
FAMILIES: tuple[frozenset[str], ...] = (
    frozenset({"person", "people", "pedestrian", "man", "woman", "child", "boy", "girl", "human", "worker"}),
    frozenset({"car", "truck", "bus", "van", "suv", "pickup", "vehicle", "lorry", "taxi", "ambulance", "minibus"}),
    frozenset({"bicycle", "motorcycle", "motorbike", "bike", "scooter", "moped", "tricycle", "awning-tricycle"}),
    frozenset({"cat", "dog", "fox"}),
    frozenset({"horse", "sheep", "cow", "goat", "deer", "pig"}),
    frozenset({"backpack", "handbag", "suitcase", "bag", "luggage"}),
)


class Families:
    """Numbers of labels and of their families, the same for as long as it lives, whatever engine names them."""

    def __init__(self, families: Sequence[frozenset[str]] = FAMILIES) -> None:
        self._family_of = {label: number for number, family in enumerate(families) for label in family}
        self._next = len(families)
        self._numbers: dict[str, int] = {}
        self._labels: tuple[str, ...] = ()
        self._by_class = (np.empty(0, np.intp), np.empty(0, np.intp))

    def of(self, labels: Sequence[str], class_ids: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return numbers of the labels and of the families of detections.

        Args:
            labels: Names of the classes, by class id.
            class_ids: `int32 [n]`.

        Returns:
            Two times `intp [n]`.
        """
        if labels is not self._labels and tuple(labels) != self._labels:
            self._labels = tuple(labels)
            self._by_class = (
                np.array([self._numbers.setdefault(label, len(self._numbers)) for label in labels], np.intp),
                np.array([self._family(label.lower()) for label in labels], np.intp),
            )
        return self._by_class[0][class_ids], self._by_class[1][class_ids]

    def _family(self, label: str) -> int:
        if label not in self._family_of:
            self._family_of[label] = self._next
            self._next += 1
        return self._family_of[label]
