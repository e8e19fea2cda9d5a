"""Read what a channel wants out of an engine's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.verdict import EngineOutcome

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import Inference
    from vedette_server.execute.local import LocalInference
    from vedette_server.frame import Frame


class ResultReader:
    def __init__(self, config, inferences) -> None:
        self._inf = inferences
        self.config = config

    def read(self, engine_index, inference, frame) -> EngineOutcome:
        import cv2, numpy as np
        from types import SimpleNamespace
        inf = self._inf[engine_index]
        row = inference.row
        keep = row[:, 4] >= (self.config.min_score or inf.defaults.min_score)
        row = row[keep]
        boxes = row[:, :4]
        if len(row):
            b = boxes.copy(); b[:, 2:] -= b[:, :2]
            idx = cv2.dnn.NMSBoxesBatched(b.tolist(), row[:, 4].tolist(), row[:, 5].astype(int).tolist(), 0.01, self.config.iou or inf.defaults.iou)
            row = row[np.array(idx, int)]
        g = inf.fit.place_upright(frame.width, frame.height, frame.rotation_degrees)
        d = SimpleNamespace(boxes=g.to_normalised(row[:, :4]), scores=row[:, 4], class_ids=row[:, 5].astype(np.int32), extras=row[:, 6:], saturated=False)
        return EngineOutcome(inf.label, inference.batch_size, d)
