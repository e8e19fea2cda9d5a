"""What packets tell of a camera: how many come, how large, whether they decode, and whether its clock runs.

All figures are compared with what is usual of this camera: a quantile of the last minutes, learned only while all is
well. Times are of receipt, so that a camera with a broken clock is judged all the same.
"""

from __future__ import annotations

import math
from collections import deque

from vedette_server.data.event import EventKind
from vedette_server.monitor.health.finding import Finding, Level

# Rates are those of the last so many seconds, told every second; of a few minutes a minute at least must be known.
_WINDOW_S, _STEP_S = 10.0, 1.0
_USUAL, _KNOWN = 600, 45
# Below such a share of what is usual a rate has collapsed, above the other it is well again.
_COLLAPSED, _RECOVERED = 0.4, 0.6
# Of bytes the quietest tenth is taken for usual and a smaller share of it: a still night needs few of them.
_FEW_BYTES, _ENOUGH_BYTES = 0.2, 0.35
# After so long the new rate is how the camera is set.
_ACCEPT_S = 900.0
# A step of the capture clock against receipt by more than this is no jitter.
_JUMP_S = 1.0
_BAD_SHARE, _FINE_SHARE, _BAD_LEAST = 0.10, 0.03, 3


class Rates:
    """How many packets and bytes come."""

    def __init__(self) -> None:
        self._packets: deque[tuple[float, int]] = deque()
        self._bytes = 0
        self._begun_s = -math.inf
        self._judged_s = -math.inf
        self._frame_level = Level(_USUAL, _KNOWN)
        self._byte_level = Level(_USUAL, _KNOWN, 0.1)
        self._low: dict[EventKind, float] = {}

    def restart(self) -> None:
        """Begin anew: what came before says nothing of now; what is usual stays."""
        self._packets.clear()
        self._bytes = 0
        self._begun_s = -math.inf
        self._low.clear()

    def take(self, time_s: float, size_bytes: int) -> list[Finding] | None:
        """Take a packet; return what is found, or None where nothing was judged."""
        if self._begun_s == -math.inf:
            self._begun_s = time_s
        self._packets.append((time_s, size_bytes))
        self._bytes += size_bytes
        while self._packets[0][0] <= time_s - _WINDOW_S:
            self._bytes -= self._packets.popleft()[1]
        if time_s - self._begun_s < _WINDOW_S or time_s - self._judged_s < _STEP_S:
            return None
        self._judged_s = time_s
        frames = self._judge(EventKind.CAMERA_LOW_FRAME_RATE, len(self._packets) / _WINDOW_S, time_s)
        if frames is not None and EventKind.CAMERA_LOW_BITRATE not in self._low:
            return [frames]  # fewer frames have fewer bytes: that is one fault
        rate = self._judge(EventKind.CAMERA_LOW_BITRATE, self._bytes * 8 / _WINDOW_S, time_s)
        return [finding for finding in (frames, rate) if finding is not None]

    def _judge(self, kind: EventKind, rate: float, time_s: float) -> Finding | None:
        frames = kind is EventKind.CAMERA_LOW_FRAME_RATE
        level = self._frame_level if frames else self._byte_level
        low, fine = (_COLLAPSED, _RECOVERED) if frames else (_FEW_BYTES, _ENOUGH_BYTES)
        usual, since_s = level.known, self._low.get(kind)
        if usual is None or rate >= usual * (low if since_s is None else fine):
            self._low.pop(kind, None)
            level.learn(rate)
            return None
        since_s = self._low.setdefault(kind, time_s)
        if time_s - since_s > _ACCEPT_S:
            level.forget()
            if frames:
                self._byte_level.forget()  # other frames, other bytes
            del self._low[kind]
            return None
        if frames:
            return Finding(
                kind,
                f"{rate:.1f} frames per second come, usually {usual:.1f}",
                {"frames_per_s": rate, "usual_frames_per_s": usual},
            )
        return Finding(
            kind,
            f"{rate / 1000:.0f} kbit/s come, in quiet times usually {usual / 1000:.0f}",
            {"bits_per_s": rate, "usual_bits_per_s": usual},
        )


class CaptureClock:
    """Whether the camera's clock runs evenly.

    A jump is a step that receipt cannot explain: back by more than a second, or ahead of all that was seen in the last
    minute. A network that stalls and then delivers at once gives neither: it only delays, and capture goes on evenly.
    """

    def __init__(self) -> None:
        self._capture_s: float | None = None
        self._receipt_s = 0.0
        # Offsets of the last minute, the largest of each second: the least delay.
        self._offsets: deque[tuple[float, float]] = deque(maxlen=60)
        self._jump: Finding | None = None
        self._until_s = -math.inf

    def take(self, receipt_s: float, capture_s: float, quiet_s: float) -> Finding | None:
        """Take a packet's times; return a jump while it is not `quiet_s` old."""
        if self._capture_s is not None:
            step, passed = capture_s - self._capture_s, receipt_s - self._receipt_s
            self._look(step, passed, receipt_s, capture_s - receipt_s, quiet_s)
        self._capture_s, self._receipt_s = capture_s, receipt_s
        self._note(receipt_s, capture_s - receipt_s)
        return self._jump if receipt_s < self._until_s else None

    def restart(self) -> None:
        """Begin anew; a clock may be set while nobody looks."""
        self._capture_s = None
        self._offsets.clear()
        self._until_s = -math.inf

    def _look(self, step: float, passed: float, receipt_s: float, offset: float, quiet_s: float) -> None:
        usual = max((most for _, most in self._offsets), default=offset)
        back = step < -_JUMP_S
        ahead = step > passed + _JUMP_S and offset > usual + _JUMP_S
        if not back and not ahead:
            return
        jump_s = step - passed
        self._offsets.clear()
        self._until_s = receipt_s + quiet_s
        self._jump = Finding(
            EventKind.CAMERA_CLOCK_JUMP,
            f"the capture clock jumped by {jump_s:+.1f} s",
            {"jump_s": jump_s},
            since_s=receipt_s,
        )

    def _note(self, receipt_s: float, offset: float) -> None:
        if self._offsets and receipt_s - self._offsets[-1][0] < 1.0:
            began_s, most = self._offsets[-1]
            self._offsets[-1] = (began_s, max(most, offset))
        else:
            self._offsets.append((receipt_s, offset))


class Decoding:
    """What share of the packets of the last seconds gave no sound picture."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, bool]] = deque()
        self._bad = 0
        self._begun_s: float | None = None
        self._sound = False
        self._ill = False

    def restart(self) -> None:
        """Begin anew with a stream: it may wait for its first keyframe again."""
        self._answers.clear()
        self._bad, self._begun_s, self._sound, self._ill = 0, None, False, False

    def take(self, time_s: float, sound: bool) -> Finding | None:
        """Take what became of a packet; return a finding while too many are bad."""
        if self._begun_s is None:
            self._begun_s = time_s
        self._sound = self._sound or sound
        if not self._sound and time_s - self._begun_s < _WINDOW_S:
            return None  # it waits for its first keyframe
        self._answers.append((time_s, sound))
        self._bad += not sound
        while self._answers[0][0] <= time_s - _WINDOW_S:
            self._bad -= not self._answers.popleft()[1]
        share = self._bad / len(self._answers)
        self._ill = self._bad >= _BAD_LEAST and share >= (_FINE_SHARE if self._ill else _BAD_SHARE)
        if not self._ill:
            return None
        return Finding(
            EventKind.CAMERA_DECODE_ERRORS,
            f"{share:.0%} of the packets of {_WINDOW_S:.0f} s could not be decoded",
            {"share": share, "packets": float(len(self._answers))},
        )
