"""Write events, their evidence and the chain's signed head to files, and read such a head again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

from vedette_client.cli.engine_frames import folder_name
from vedette_client.cli.events_json import event_line
from vedette_client.cli.files import whole_file, write_whole
from vedette_client.errors import ConnectionLostError, IntegrityError, OptionsError, RefusedError
from vedette_client.events_chain import ChainHead, head_from_json
from vedette_client.events_data import EvidenceState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_client.client import Client
    from vedette_client.events_data import Event, EventFilter

HEAD_KEY = "chain_head"
_BLOCK_BYTES = 1 << 20


class Export:
    """One export.

    Attributes:
        events: How many events were written.
        files: How many files of evidence are there now.
        problems: What could not be fetched, in words.
    """

    def __init__(self, client: Client) -> None:
        self.events = 0
        self.files = 0
        self.problems: list[str] = []
        self._client = client

    async def write(
        self, path: Path, channels: Sequence[str], wanted: EventFilter | None, *, trails: bool, evidence: Path | None
    ) -> ChainHead:
        """Write lines of JSON: the events, the newest first, and at last the signed head of the chain.

        The head is asked for when all events were read, so that it covers them.
        """
        with whole_file(path) as file:
            for channel in channels or (None,):
                async for event in self._client.events.find(channel, wanted):
                    one = await self._client.events.get(event) if trails else event
                    file.write(event_line(one, trail=trails) + "\n")
                    self.events += 1
                    if evidence is not None:
                        await self._fetch(event, evidence)
            head = await self._client.events.chain_head()
            file.write(json.dumps({HEAD_KEY: json.loads(head.to_json())}, separators=(",", ":")) + "\n")
        return head

    async def _fetch(self, event: Event, folder: Path) -> None:
        beside = folder / folder_name(event.channel) / event.event_id
        pieces = (
            ("snapshot", event.snapshot, ".jpg"),
            ("snapshot with boxes", event.annotated_snapshot, ".annotated.jpg"),
            ("clip", event.clip, ".mp4"),
        )
        for name, evidence, ending in pieces:
            path = beside.with_name(beside.name + ending)
            if evidence.state is not EvidenceState.READY:
                continue
            try:
                if not _is_there(path, evidence.sha256):
                    await self._fetch_piece(event, ending, path)
                self.files += 1
            except (RefusedError, IntegrityError, ConnectionLostError) as error:
                if isinstance(error, RefusedError) and error.code != "NOT_FOUND":
                    raise
                self.problems.append(f"{event.name}: the {name}: {error}")

    async def _fetch_piece(self, event: Event, ending: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == ".mp4":
            await self._client.events.clip(event, path)
            return
        jpeg = await self._client.events.snapshot(event, annotated=ending != ".jpg")
        write_whole(path, jpeg)


def read_head(path: Path) -> ChainHead:
    """Read the head of a chain from its own file, or from the last line of an export.

    Raises:
        OptionsError: There is none.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise OptionsError(f"head {path}: cannot be read: {why}") from error
    last = text.rpartition("\n")[2]
    if last.startswith(f'{{"{HEAD_KEY}"'):
        with contextlib.suppress(ValueError):
            text = json.dumps(json.loads(last)[HEAD_KEY])
    return head_from_json(text, f"head {path}")


def _is_there(path: Path, sha256: str) -> bool:
    """Tell whether an earlier export has brought the file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == sha256
