"""Verdicts as JSON, one object a line.

Every object has these keys:

- `channel`, `source`: the channel's name, and the source as it was given, but for its password
- `sequence`, `index`: number of the packet, and of its verdict (null: the client itself gave it)
- `time_s`: presentation time in seconds; null when the source has none
- `outcome`: `analysed` or `skipped`
- `reason`, `detail`: why it was skipped; null and empty otherwise
- `age_ms`: from when the packet was due until its verdict came
- `picture`: `width`, `height`, `rotation_degrees` of the upright picture; null when nothing was decoded
- `concealed`: parts of the picture were filled in by the decoder
- `times_us`: microseconds in each stage of the server; null when the client itself gave the verdict
- `request_id`: names the frame in the server's log
- `results`: one per engine: `engine`, `version`, `backend`, `batch_size`, `saturated`, `detections`,
  `classifications`, `embedding`

A detection has `label`, `class_id`, `score`, `box` (x_min, y_min, x_max, y_max, 0 to 1 of the picture),
`box_px` (in pixels), and where there are any `track_id`, `attributes`, `keypoints`, `mask`, `embedding`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from vedette_client.credentials import without_password

if TYPE_CHECKING:
    from vedette_client.sources import SourceFormat, SourcePacket
    from vedette_client.verdicts import Detection, EngineResult, Verdict

_STAGES = ("receive", "decode", "wait", "convert", "batch", "execute", "post", "total")
_OPTIONAL = ("track_id", "embedding")


class JsonLines:
    """Writes the verdicts of one camera; a listener of its `Camera`.

    Args:
        output: Where to; several cameras may share it. Belongs to the caller.
        channel: Name of the channel.
        spec: The source as it was given.
    """

    def __init__(self, output: TextIO, channel: str, spec: str) -> None:
        self._output = output
        self._channel = channel
        self._spec = without_password(spec)
        self._form: SourceFormat | None = None

    def opened(self, form: SourceFormat) -> None:
        """Take what the source contains."""
        self._form = form

    def sent(self, sequence: int, packet: SourcePacket) -> None:
        """Write nothing of packets."""

    def judged(self, verdict: Verdict, age_s: float) -> None:
        """Write a verdict."""
        time_s = None
        if verdict.pts is not None and self._form is not None:
            time_s = round(float(verdict.pts * self._form.time_base), 6)
        page = {
            "channel": self._channel,
            "source": self._spec,
            "sequence": verdict.sequence,
            "index": verdict.index,
            "time_s": time_s,
            "outcome": "analysed" if verdict.analysed else "skipped",
            "reason": verdict.reason.name if verdict.reason is not None else None,
            "detail": verdict.detail,
            "age_ms": round(age_s * 1000, 3),
            "picture": verdict.picture._asdict() if verdict.picture else None,
            "concealed": verdict.concealed,
            "times_us": _times(verdict),
            "request_id": verdict.request_id,
            "results": [_result(result) for result in verdict.results],
        }
        self._output.write(json.dumps(page, separators=(",", ":")) + "\n")

    async def close(self) -> None:
        """Have everything written."""
        self._output.flush()


def _times(verdict: Verdict) -> dict[str, int] | None:
    if verdict.times is None:
        return None
    return {stage: getattr(verdict.times, f"{stage}_us") for stage in _STAGES}


def _result(result: EngineResult) -> dict[str, Any]:
    return {
        "engine": result.engine,
        "version": result.version,
        "backend": result.backend,
        "batch_size": result.batch_size,
        "saturated": result.candidates_saturated,
        "detections": [_detection(detection) for detection in result.detections],
        "classifications": [one._asdict() for one in result.classifications],
        "embedding": list(result.embedding),
    }


def _detection(detection: Detection) -> dict[str, Any]:
    page: dict[str, Any] = {
        "label": detection.label,
        "class_id": detection.class_id,
        "score": round(detection.score, 6),
        "box": [round(edge, 6) for edge in detection.box],
        "box_px": [round(edge, 2) for edge in detection.box_px],
    }
    page |= {name: value for name in _OPTIONAL if (value := getattr(detection, name))}
    if detection.attributes:
        page["attributes"] = [one._asdict() for one in detection.attributes]
    if detection.keypoints:
        page["keypoints"] = [one._asdict() for one in detection.keypoints]
    if detection.mask is not None:
        page["mask"] = detection.mask._asdict()
    return page
