"""Make the pictures of the README from a run of `vedette demo`: what its terminal showed, and a frame of its clip.

`python docs/picture.py` writes `docs/demo.svg` and `docs/demo.png`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SECONDS = 20
COLUMNS = 112
COMMAND = "from vedette_client.cli.main import main; main()"
_CURSOR = re.compile(r"\x1b\[\??\d*[A-GJKhl]")


def run_demo(out: Path) -> str:
    """Run the demo as on a terminal and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "demo", "--seconds", str(SECONDS), "--out", str(out)],
        env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=True,
    )
    # Where it was run is nobody's business.
    return done.stdout.replace(str(out), "out")


def shown(output: str) -> str:
    """Take the live table out of the output as it stood when three quarters of the time were over, and the summary."""
    tables = [part for part in re.split(r"(?=\x1b\[1mvedette demo: )", output) if "(Ctrl-C ends)" in part]
    whole = [part for part in tables if "4 of 4 running" in part]
    table = whole[len(whole) * 3 // 4]
    end = table.index("(Ctrl-C ends)") + len("(Ctrl-C ends)")
    summary = output[output.rindex("\x1b[1mSummary") :]
    kept = summary[: summary.index("annotated clip")]
    return _CURSOR.sub("", f"{table[:end]}\x1b[0m\n\n{kept}")


def terminal(text: str) -> str:
    """Draw what a terminal shows as SVG, in whatever fixed-width font the reader has."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    width = max(len(Text.from_ansi(line).plain) for line in lines)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="make demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def frame(clip: Path) -> NDArray[np.uint8]:
    """Take the frame of a clip that shows the most: boxes of analysed frames are bright, others are grey.

    Returns:
        `uint8 [H, W, 3]`, RGB.
    """
    with av.open(str(clip)) as container:
        frames = [picture.to_ndarray(format="rgb24").astype(np.int16) for picture in container.decode(video=0)]
    bright = [int((np.ptp(picture, axis=2) > 120).sum()) for picture in frames]
    return frames[int(np.argmax(bright))].astype(np.uint8)


def main() -> None:
    """Run the demo, and write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        text = shown(run_demo(Path(folder)))
        picture = frame(Path(folder) / "demo.mp4")
        Image.fromarray(picture).save(HERE / "demo.png", optimize=True)
    (HERE / "demo.svg").write_text(terminal(text), encoding="utf-8")


if __name__ == "__main__":
    main()
