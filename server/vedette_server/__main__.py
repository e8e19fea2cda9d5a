"""Run the server in this process: `python -m vedette_server` is `vedette serve --no-supervise`.

It is the worker that the supervisor of `vedette serve` starts.
"""

from __future__ import annotations

import os

from vedette_server.cli import worker
from vedette_server.lifeline import tie

if __name__ == "__main__":
    tie(os.environ)
    worker()
