"""Set up the log: events as fixed phrases with fields, as lines for people or as JSON.

`configure` is called once, at the start, by whoever starts the process. Everybody else asks structlog for a
logger: `structlog.get_logger().info("channel connected", channel=name)`. What libraries write through the
standard `logging` goes the same way, from WARNING up.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor

    from vedette_server.settings import LogSettings

_OURS = ("vedette_server", "vedette_engines")


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send all events of this process to one stream, standard error unless told otherwise.

    May be called again; the last call holds.
    """
    out = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings.format, out)],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_our_logger,
        cache_logger_on_first_use=False,
    )


def _our_logger(*args: str) -> logging.Logger:
    """Give structlog a logger below ours, so that its level is ours and not that of the libraries."""
    return logging.getLogger(args[0] if args else "vedette_server")


def _shared() -> list[Processor]:
    """List what every event passes, whoever wrote it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderers(log_format: str, out: TextIO) -> list[Processor]:
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    colored = out.isatty()
    traceback = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colored, exception_formatter=traceback)]
