"""Times as people type and read them: `-1h`, `2026-11-21 18:00`, `18:00`; in this machine's time zone unless told."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from vedette_client.errors import OptionsError

_BACK = re.compile(r"-?(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)(?: ago)?")
_UNIT_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_ALLOWED = "-90s, -30m, -1h, -2d, 18:00, 2026-11-21, 2026-11-21T18:00 or 2026-11-21T18:00:00+01:00"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_time(text: str, option: str, now: datetime | None = None) -> int:
    """Read a time: so long ago, a time of today, a day or a time of ISO 8601.

    Args:
        text: As it was typed; without a zone it is this machine's.
        option: For messages.
        now: What time it is; None: the clock's.

    Returns:
        Nanoseconds since the epoch.

    Raises:
        OptionsError: It is none of these.
    """
    now = now or datetime.now(UTC)
    typed = text.strip().lower()
    try:
        if typed == "now":
            return _nanoseconds(now)
        if found := _BACK.fullmatch(typed):
            return _nanoseconds(now - timedelta(seconds=float(found[1]) * _UNIT_S[found[2]]))
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", typed):
            return _nanoseconds(_local(datetime.combine(_today(now), time.fromisoformat(typed.rjust(5, "0")))))
        return _nanoseconds(_local(datetime.fromisoformat(text.strip())))
    except (ValueError, OverflowError) as error:
        raise OptionsError(f"{option} is {text!r}; allowed: {_ALLOWED}") from error


def show_time(time_ns: int) -> str:
    """Say a time, nanoseconds since the epoch, in this machine's zone: `2026-11-21 18:00:00.0 CET`."""
    try:
        local = (_EPOCH + timedelta(microseconds=time_ns // 1000)).astimezone()
    except (ValueError, OverflowError, OSError):  # beyond the years that a calendar has
        return f"{time_ns / 1e9:.1f} s"
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 100_000} {local:%Z}"


def iso_time(time_ns: int) -> str:
    """Write a time for programs: ISO 8601 in UTC, to the nanosecond where there is more than a microsecond."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    try:
        day = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds}.{nanos:09d}"
    return f"{day:%Y-%m-%dT%H:%M:%S}.{nanos:09d}".rstrip("0").rstrip(".") + "Z"


def show_span(seconds: float) -> str:
    """Say how long: `2.5 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size} {part}"
    return f"{whole} s"


def _local(found: datetime) -> datetime:
    return found.astimezone() if found.tzinfo is None else found


def _today(now: datetime) -> date:
    return now.astimezone().date()


def _nanoseconds(found: datetime) -> int:
    return (found - _EPOCH) // timedelta(microseconds=1) * 1000
