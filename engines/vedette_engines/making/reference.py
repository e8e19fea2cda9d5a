"""OpenCV's own people detector, to hold the engine `person` against.

Used by the test and the benchmark; needs OpenCV with HOG (4.x, or 5.x with contrib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from vedette_engines.making import person

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_EVERYTHING = -1e9


class OpenCvPeople:
    """`cv2.HOGDescriptor` with the default people detector."""

    def __init__(self) -> None:
        # OpenCV's type stubs do not know the detector's coefficients.
        opencv: Any = cv2
        self._hog: Any = opencv.HOGDescriptor()
        self._hog.setSVMDetector(opencv.HOGDescriptor_getDefaultPeopleDetector())

    def window_scores(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score all windows of a picture at its own scale: `float32 [rows, columns]`.

        Args:
            picture: `uint8 [H, W, 3]`, BGR.
        """
        stride, padding = person.CELL, person.PADDING
        places, scores = self._hog.detect(
            picture, hitThreshold=_EVERYTHING, winStride=(stride, stride), padding=(padding, padding)
        )
        columns, rows = ((np.asarray(places) + padding) // stride).T
        grid = np.full((rows.max() + 1, columns.max() + 1), np.nan, np.float32)
        grid[rows, columns] = np.ravel(scores)
        return grid

    def detect(self, picture: NDArray[np.uint8]) -> int:
        """Run the whole detector over a pyramid like the engine's; how many windows it reports."""
        stride, padding = person.CELL, person.PADDING
        boxes, _ = self._hog.detectMultiScale(
            picture, hitThreshold=0.0, winStride=(stride, stride), padding=(padding, padding), scale=1.23
        )
        return len(boxes)


class OpenedPerson:
    """The published graph with its inner tensors laid open.

    Args:
        path: The engine's ONNX file.
    """

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        resized = [node.output[0] for node in model.graph.node if node.op_type == "Round"]
        self._pictures = dict(zip(range(1, len(person.SCALES)), resized, strict=True))
        for name in [*self._pictures.values(), *(f"svm_{index}" for index in range(len(person.SCALES)))]:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._session: Any = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def look(self, frame: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Tell, scale by scale, the picture `uint8 [h, w, 3]` and its windows' SVM scores `float32 [rows, columns]`.

        Args:
            frame: `uint8 [288, 512, 3]`, BGR.
        """
        seen = []
        for index, scale in enumerate(person.SCALES):
            names = [f"svm_{index}", *([self._pictures[index]] if index else [])]
            svm, *resized = self._session.run(names, {"frames": frame[None]})
            picture = np.ascontiguousarray(resized[0][0].transpose(1, 2, 0).astype(np.uint8)) if resized else frame
            seen.append((picture, svm[0].reshape(scale.windows)))
        return seen


def largest_difference(opened: OpenedPerson, opencv: OpenCvPeople, frame: NDArray[np.uint8]) -> float:
    """Compare all windows of all scales with OpenCV's on the same pictures; the largest difference in SVM score.

    A window that one of the two does not have counts as an infinite difference.
    """
    largest = 0.0
    for picture, ours in opened.look(frame):
        theirs = opencv.window_scores(picture)
        if theirs.shape != ours.shape or np.isnan(theirs).any():
            return float("inf")
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest
