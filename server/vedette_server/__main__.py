"""Run the server: `python -m vedette_server` is `vedette serve`."""

from __future__ import annotations

from vedette_server.cli import serve

if __name__ == "__main__":
    serve()
