"""Write the verdict of a frame, or of a packet that has none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_engines.gpu.nvtx import nvtx_range
from vedette_server.data.verdict import Verdict

if TYPE_CHECKING:
    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.verdict import EngineOutcome
    from vedette_server.decode.base import Decoded
    from vedette_server.execute.client import Inference
    from vedette_server.frame import Frame
    from vedette_server.trace import ChannelTrace

_log = logging.getLogger(__name__)


def read_outcome(engine_index: int, inference: Inference, frame: Frame) -> tuple[EngineOutcome | None, str]:
    """Read one engine's result with what the frame is bound to; return it, or None and what went wrong in words."""
    if inference.row is None or frame.binding is None:
        return None, inference.error
    try:
        with nvtx_range("verdict"):
            return frame.binding.reader.read(engine_index, inference, frame), inference.error
    except Exception as error:  # noqa: BLE001 - a result that cannot be read costs its frame, not the lane
        _log.exception("result could not be read")
        return None, f"result could not be read: {error}"


def note(
    frame: Frame,
    engine_index: int,
    outcome: EngineOutcome | None,
    failure: str,
    inference: Inference,
    read_s: tuple[float, float],
    trace: ChannelTrace | None = None,
) -> bool:
    """Enter what one engine found in the frame and when it was read; return whether it was the last one.

    The session's lock is held. Of several engines the slowest counts.
    """
    frame.outcomes[engine_index] = outcome
    frame.failure = frame.failure or failure
    frame.missing -= 1
    times = frame.times
    times.batch_s = max(times.batch_s, inference.started_s - frame.submitted_s)
    times.execute_s = max(times.execute_s, inference.finished_s - inference.started_s)
    times.post_s += read_s[1] - read_s[0]
    if trace is not None and frame.binding is not None:
        trace.read(frame, frame.binding.inferences[engine_index].label, inference, *read_s)
    return frame.missing == 0


def frame_verdict(frame: Frame, reason: SkipReason | None, detail: str = "") -> Verdict:
    """Judge a frame that was decoded."""
    return Verdict(
        packet=frame.packet,
        pts=frame.pts,
        reason=reason,
        detail=detail,
        width=frame.width,
        height=frame.height,
        rotation_degrees=frame.rotation_degrees,
        results=tuple(outcome for outcome in frame.outcomes if outcome is not None),
        times=frame.times,
        offered_s=frame.offered_s,
        way=frame.way,
        picture=frame.picture if frame.kept else None,
    )


def answer_verdict(answer: Decoded, reason: SkipReason) -> Verdict:
    """Judge a packet that goes no further than its decoder."""
    packet, picture = answer.packet, answer.picture
    verdict = Verdict(packet, answer.pts, reason, answer.detail)
    verdict.times.receive_s = packet.taken_s - packet.received_s
    verdict.times.decode_s = answer.decode_s
    if picture is not None:
        verdict.width, verdict.height = picture.width, picture.height
        verdict.rotation_degrees = picture.rotation_degrees
        picture.close()
    return verdict
