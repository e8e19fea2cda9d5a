"""The largest batch of an engine's file, within what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile


def choose_max_batch(bundle: Bundle, file: EngineFile, wanted: int | None) -> int | None:
    """Tell the most frames per run: the smaller of what is wanted and what the file allows; None: no limit.

    Raises:
        LoadError: More is wanted than the file allows.
    """
    limit = file.batch if file.batch is not None else file.max_batch
    if wanted is None:
        return limit
    if wanted < 1 or (limit is not None and wanted > limit):
        raise LoadError(
            f"max_batch is {wanted}; engine {bundle.name} {bundle.version} allows 1..{limit or 'any number'}"
        )
    return wanted
