"""Where the tool looks for engines and where it publishes them.

Imports nothing but the standard library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "VEDETTE_ENGINES_DIR"
DEFAULT_ROOT = "~/.local/share/vedette/engines"


def user_roots(given: Sequence[Path] | None, environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Tell the user's own roots, the one to publish into first.

    Args:
        given: From the command line; it replaces the rest.
        environment: Holds the variable, several folders separated by `:`; None: the process's.
    """
    if given:
        return tuple(path.expanduser() for path in given)
    words = (os.environ if environment is None else environment).get(VARIABLE, "")
    named = [Path(word).expanduser() for word in words.split(os.pathsep) if word]
    return tuple(named) or (Path(DEFAULT_ROOT).expanduser(),)
