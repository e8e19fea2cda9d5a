"""Read what a channel wants out of its engines' rows.

One reader per configuration in effect; it holds nothing of a frame, so that any lane may use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.verdict import EngineOutcome
from vedette_server.post.detections import DetectionFilter

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import Inference, InferenceClient
    from vedette_server.frame import Frame


class ResultReader:
    """Turns the rows of a channel's engines into outcomes.

    Args:
        config: The configuration in effect.
        inferences: What runs its engines, in the order of the configuration.
    """

    def __init__(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> None:
        self._sample_aspect = config.format.sample_aspect
        self._inferences = inferences
        self._filters = tuple(
            DetectionFilter.for_channel(
                config,
                inference.label.labels,
                inference.label.extras,
                min_score=inference.defaults.min_score,
                iou=inference.defaults.iou,
            )
            for inference in inferences
        )

    def read(self, engine_index: int, inference: Inference, frame: Frame) -> EngineOutcome:
        """Read one engine's result for one frame; the row is not kept.

        Raises:
            ValueError: There is no row, or it is not what the engine's manifest says.
        """
        client = self._inferences[engine_index]
        if inference.row is None:
            raise ValueError(f"engine {client.label.name} gave no row: {inference.error}")
        if client.label.task != "detector":
            return EngineOutcome(client.label, inference.batch_size, vector=inference.row.copy())
        place = client.fit.place_upright(frame.width, frame.height, frame.rotation_degrees, self._sample_aspect)
        found = self._filters[engine_index].judge(inference.row, place)
        return EngineOutcome(client.label, inference.batch_size, found)
