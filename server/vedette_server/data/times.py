"""Where one frame's time went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StageTimes:
    """Seconds that one frame spent in each stage; 0 for a stage that it never reached.

    Filled in by each stage as the frame passes; read once, when the verdict is written.

    Attributes:
        receive_s: From receipt until a decoder took the packet.
        decode_s: Decoding.
        wait_s: Waiting for its turn, decoded but not converted.
        convert_s: Resizing and converting into the engine's input.
        batch_s: Waiting for its batch to leave and for a lane.
        execute_s: Executing the batch.
        post_s: Non-maximum suppression and what follows.
        total_s: From receipt to the verdict.
    """

    receive_s: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    convert_s: float = 0.0
    batch_s: float = 0.0
    execute_s: float = 0.0
    post_s: float = 0.0
    total_s: float = 0.0
