"""Answer one question, as a process: `python -m vedette_engines.doctor.child QUESTION ARGUMENTS FILE`.

The answer goes into the file, whole or not at all; what libraries print is nobody's answer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from vedette_engines.doctor.questions import QUESTIONS


def main(question: str, arguments: str, file: str) -> None:
    """Answer and end."""
    answer: dict[str, Any]
    try:
        answer = {"value": QUESTIONS[question](**json.loads(arguments))}
    except Exception as error:  # noqa: BLE001  (libraries raise what they like; the reason is the answer)
        answer = {"failure": _line(error)}
    place = Path(file)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(place)
    # Without clean-up: a library that hangs or crashes there has done what it was asked for.
    sys.stdout.flush()
    os._exit(0)


def _line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:4])
