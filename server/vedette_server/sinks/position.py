"""How far one sink has come along the chain, kept on the disk.

A file of JSON, replaced in one step. It is never ahead of what was delivered or given up: a crash gives doubles,
never gaps.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vedette_server.errors import SettingsError
from vedette_server.sinks.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 1


@dataclass(slots=True)
class Behind:
    """A channel that a failure holds back, while others go on.

    Attributes:
        position: Its messages up to this record are settled.
        held: So many of its messages lie between there and where the others are.
        since_s: When the first of them was first tried, seconds since the epoch; None: not yet.
        faults: So often it failed while the sink took others.
    """

    position: int
    held: int
    since_s: float | None = None
    faults: int = 0


@dataclass(slots=True)
class Position:
    """How far a sink has come.

    Attributes:
        through: All records up to this one are settled, but for those of channels that are behind.
        behind: Channels that are held back.
    """

    through: int = 0
    behind: dict[str, Behind] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """All records up to this one are settled."""
        return min([self.through, *(one.position for one in self.behind.values())])


class PositionFile:
    """Where it is kept.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Position | None:
        """Read it; None: there is none.

        Raises:
            SettingsError: It cannot be read, or is not what was written.
        """
        try:
            content = json.loads(self._path.read_bytes())
            return _position(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(f"file {self._path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"file {self._path}: not a sink's position of version {_VERSION} ({error!r}); "
                "remove it, and the sink begins where its `start` says"
            ) from error

    def save(self, position: Position) -> None:
        """Write it; on the disk when it returns.

        Raises:
            OSError: It cannot; the old one is there as before.
        """
        write_whole(self._path, json.dumps({"version": _VERSION, **asdict(position)}).encode())


def _position(content: Any) -> Position:
    """Take what was written apart.

    Raises:
        ValueError: It is of another version.
    """
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']!r}")
    behind = {str(name): Behind(**one) for name, one in content["behind"].items()}
    return Position(int(content["through"]), behind)
