"""All that monitors is opened in order, closed in reverse, and nothing stays open when a piece of it is broken."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_store import ended
from vedette_server.data.channel import ChannelRecord, RetentionConfig
from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import SettingsError
from vedette_server.monitoring import Monitoring
from vedette_server.settings import Settings
from vedette_server.state_dir import StateDir
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable


class NoCascade:
    """Looks closer at nothing."""

    def open(self, _channel: str, _stages: object) -> None:
        return None


def settings_in(folder: Path, **sections: Any) -> Settings:
    settings = Settings()
    monitor = replace(settings.monitor, state_dir=folder / "state", **sections.pop("monitor", {}))
    return replace(
        settings, monitor=monitor, **{name: replace(getattr(settings, name), **more) for name, more in sections.items()}
    )


def opened(settings: Settings) -> Monitoring:
    cascades: Any = NoCascade()
    return Monitoring(settings, lambda _record: (), lambda *_about: None, cascades, lambda _stages: None)


def test_a_sink_gets_no_picture_that_its_channel_does_not_allow_any_more(tmp_path: Path) -> None:
    with opened(settings_in(tmp_path, store={"max_age_s": 0.0})) as monitoring:
        monitoring.catalogue.create(ChannelRecord("gate"))
        filed = monitoring.files.put("gate", "e1", ".boxes.jpg", 1e9, b"unmasked")
        piece = Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, "image/jpeg", path=filed.path)
        event = replace(ended("e1"), channel="gate", annotated=piece)
        assert monitoring._annotated(event) == b"unmasked"
        record = monitoring.catalogue.get("gate")
        assert record is not None
        none = replace(record, watch=replace(record.watch, evidence=EvidencePolicy.NONE))
        monitoring.catalogue.update(none, frozenset({"evidence"}))
        assert monitoring._annotated(event) is None
        monitoring.catalogue.delete("gate")
        assert monitoring._annotated(event) is None, "nor of one that was deleted"


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread is not threading.main_thread()}


def files_open(folder: Path) -> list[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:
            # That of the listing itself.
            continue
    return [link for link in links if link.startswith(str(folder))]


def test_it_opens_ticks_tells_figures_and_closes_twice_leaving_nothing_open(tmp_path: Path) -> None:
    before = threads()
    with opened(settings_in(tmp_path)) as monitoring:
        monitoring.tick()
        assert monitoring.figures.channels == {}
        assert monitoring.figures.evidence_bytes == 0
        monitoring.monitors.changed("gate", ChannelRecord("gate"))
        assert set(monitoring.figures.channels) == {"gate"}
        with pytest.raises(SettingsError, match="another server"):
            opened(settings_in(tmp_path))
    monitoring.close()
    assert threads() <= before
    assert not files_open(tmp_path)
    opened(settings_in(tmp_path)).close()


def test_a_store_elsewhere_is_one_servers_at_a_time_too(tmp_path: Path) -> None:
    store = {"url": f"sqlite:///{tmp_path}/events.db"}
    with opened(settings_in(tmp_path / "one", store=store)):
        with pytest.raises(SettingsError, match=r"store\.url: .* is used by another server; allowed: a database"):
            opened(settings_in(tmp_path / "two", store=store))
        assert not files_open(tmp_path / "two")
    opened(settings_in(tmp_path / "two", store=store)).close()


def as_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no folder")


def damaged(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is no database at all" * 1000)


def nonsense(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{nonsense")


def recordings_as_folder(path: Path) -> None:
    (path / "gate" / "2026-01-01" / "recordings.jsonl").mkdir(parents=True)


BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("state", as_file, "monitor.state_dir"),
    ("state/events.db", damaged, "store.url"),
    ("state/chain.key", nonsense, "chain.key"),
    ("state/evidence", as_file, "evidence.dir"),
    ("state/channels.json", nonsense, "channels.json"),
    ("channels.toml", nonsense, "channels.toml"),
    ("sinks.toml", nonsense, "sinks.toml"),
    ("state/sinks", as_file, "sinks"),
    ("state/evidence", recordings_as_folder, "evidence.dir"),
]


@pytest.mark.parametrize(("name", "breaks", "told"), BROKEN, ids=[f"{one[0]}-{one[1].__name__}" for one in BROKEN])
def test_a_piece_that_is_broken_is_named_and_nothing_is_left_open(
    tmp_path: Path, name: str, breaks: Callable[[Path], None], told: str
) -> None:
    before = threads()
    (tmp_path / "channels.toml").write_text('[[channels]]\nname = "gate"\n')
    (tmp_path / "sinks.toml").write_text("")
    settings = settings_in(
        tmp_path, monitor={"channels_file": tmp_path / "channels.toml"}, sinks={"file": tmp_path / "sinks.toml"}
    )
    breaks(tmp_path / name)
    with pytest.raises(SettingsError, match=told):
        opened(settings)
    assert threads() <= before
    assert not files_open(tmp_path)


def test_what_a_killed_server_left_is_put_in_order_before_anything_is_served(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "evidence" / "gate" / "2026-01-01").mkdir(parents=True)
    picture = state / "evidence" / "gate" / "2026-01-01" / "e1.jpg"
    picture.write_bytes(b"picture")
    orphan = picture.with_name("e2.jpg")
    orphan.write_bytes(b"nobody's")
    digest = hashlib.sha256(b"picture").hexdigest()
    with EventStore(f"sqlite:///{state / 'events.db'}", key_file=state / "chain.key") as store:
        kept = Evidence(EvidenceState.READY, 7, digest, "image/jpeg", path="gate/2026-01-01/e1.jpg")
        pending = Evidence(EvidenceState.PENDING, media_type="video/mp4")
        store.append(
            [
                ended("e1", channel="gate", snapshot=kept, clip=pending),
                replace(ended("e2", channel="gate"), state=EventState.ACTIVE, end_s=None),
            ]
        )
    with opened(settings_in(tmp_path)) as monitoring:
        events = {name: monitoring.store.get(name).event for name in ("e1", "e2")}
        assert all(event is not None and event.state is EventState.ENDED for event in events.values())
        assert events["e1"] is not None
        assert (events["e1"].snapshot.state, events["e1"].clip.state) == (EvidenceState.READY, EvidenceState.FAILED)
        assert monitoring.feed.length == monitoring.store.end()[0] == 4
    assert picture.exists()
    assert not orphan.exists()


def test_a_recording_of_a_channel_that_is_known_is_no_orphan(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "evidence" / "gate" / "2026-01-01"
    folder.mkdir(parents=True)
    segment = folder / "recording-1767225600000.mp4"
    segment.write_bytes(b"video")
    line = {
        "path": "gate/2026-01-01/recording-1767225600000.mp4",
        "first_s": 1767225600.0,
        "last_s": 1767225660.0,
        "size_bytes": 5,
        "sha256": hashlib.sha256(b"video").hexdigest(),
        "keyframes_s": [1767225600.0],
    }
    (folder / "recordings.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "channels.toml").write_text('[[channels]]\nname = "gate"\n')
    with opened(settings_in(tmp_path, monitor={"channels_file": tmp_path / "channels.toml"})):
        assert segment.exists()


def test_what_was_owed_to_a_slow_store_is_kept_before_the_end(tmp_path: Path) -> None:
    monitoring = opened(settings_in(tmp_path, store={"queue": 16}))
    events = [ended(f"e{number}", channel="gate") for number in range(500)]
    with closing(sqlite3.connect(tmp_path / "state" / "events.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monitoring.desk.take(events, None, lambda _event: False)
        assert monitoring.desk.owed > 0
        assert monitoring.figures.writer.waiting >= monitoring.desk.owed
    monitoring.close()
    with EventStore(
        f"sqlite:///{tmp_path / 'state' / 'events.db'}", key_file=tmp_path / "state" / "chain.key"
    ) as store:
        assert len(store.query(size=1000).events) == 500


def test_what_was_lost_is_among_the_figures_and_said_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(settings_in(tmp_path)) as monitoring:
        monitoring.desk.take([ended("e1", channel="gate", start_s=float("inf"))], None, lambda _event: False)
        assert monitoring.figures.writer.lost == 1
        assert "were lost" not in caplog.text
    assert "1 changes of events were lost" in caplog.text


# -- the folder --


def test_a_folder_of_state_is_ours_alone_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    with StateDir(path) as folder:
        assert oct(path.stat().st_mode & 0o777) == "0o700"
        with pytest.raises(SettingsError, match="used by another server"):
            StateDir(path)
    folder.close()
    assert not files_open(tmp_path)
    StateDir(path).close()


def test_a_folder_that_cannot_be_made_or_locked_says_which_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(SettingsError, match=r"monitor\.state_dir") as raised:
            StateDir(path)
        assert str(path) in str(raised.value)

    def no_locks(_descriptor: int, _wish: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SettingsError, match="cannot be locked: No locks available"):
        StateDir(tmp_path / "state")
    assert not files_open(tmp_path)


def test_folders_that_it_makes_are_for_its_owner_only_and_of_a_wider_one_it_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = os.umask(0o022)
    try:
        StateDir(tmp_path / "above" / "state").close()
        assert not caplog.records
        (tmp_path / "wide").mkdir(mode=0o755)
        StateDir(tmp_path / "wide", "evidence.dir").close()
    finally:
        os.umask(before)
    made = [tmp_path / "above", tmp_path / "above" / "state", tmp_path / "above" / "state" / "lock"]
    assert [oct(path.stat().st_mode & 0o777) for path in made] == ["0o700", "0o700", "0o600"]
    assert (tmp_path / "wide").stat().st_mode & 0o777 == 0o755
    (told,) = [vars(record) for record in caplog.records]
    assert (told["message"], told["setting"]) == ("folder_open_to_others", "evidence.dir")
    assert (told["folder"], told["others"]) == (str(tmp_path / "wide"), "055")


@pytest.mark.parametrize("why", ["not kept any more", "another store", "evidence is off"])
def test_no_start_removes_what_another_configuration_has_kept(tmp_path: Path, why: str) -> None:
    with opened(settings_in(tmp_path)) as monitoring:
        monitoring.store.append([ended("kept", channel="gate")])
    folder = tmp_path / "state" / "evidence" / "gate" / "2026-11-21"
    folder.mkdir(parents=True)
    (folder / "recording-1795280000000.mp4").write_bytes(b"recorded")
    (folder / "kept.jpg").write_bytes(b"a picture")
    more: dict[str, Any] = {}
    if why == "another store":
        more["store"] = {"url": f"sqlite:///{tmp_path}/other.db"}
    if why == "evidence is off":
        more["evidence"] = {"enabled": False}
    opened(settings_in(tmp_path, **more)).close()
    assert (folder / "recording-1795280000000.mp4").exists()
    assert (folder / "kept.jpg").exists() == (why == "another store"), "no event names it"


def look(settings: Settings) -> tuple[str, ...]:
    """Start, and let retention look once; give the files that are left."""
    with opened(settings) as monitoring:
        monitoring.keeper.look()
        return monitoring.files.paths


@pytest.mark.parametrize("events", [True, False])
def test_recordings_of_a_deleted_channel_go_after_a_restart_but_not_beside_an_empty_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, events: bool
) -> None:
    settings = settings_in(tmp_path, store={"max_age_s": 86_400.0})
    said = RetentionConfig(400 * 86_400.0)
    with opened(settings) as monitoring:
        for record in (ChannelRecord("kept", retention=said), ChannelRecord("said", retention=said)):
            monitoring.catalogue.create(record)
        for name in ("deleted", "kept", "said"):
            monitoring.files.put(name, "recording-1", ".mp4", time.time() - 10 * 86_400, b"recorded")
        monitoring.catalogue.delete("said")
        if events:
            monitoring.store.append([ended("e1", channel="kept")])
    left = {path.partition("/")[0] for path in look(settings)}
    assert left == ({"kept", "said"} if events else {"deleted", "kept", "said"})
    assert ("there is no event in the store" in caplog.text) != events


def test_a_channel_that_is_refused_by_now_is_not_deleted_what_it_says_holds(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, store={"max_age_s": 86_400.0})
    with opened(settings) as monitoring:
        monitoring.catalogue.create(ChannelRecord("gate", retention=RetentionConfig(400 * 86_400.0)))
        monitoring.store.append([ended("e1", channel="yard")])
        monitoring.files.put("gate", "recording-1", ".mp4", time.time() - 10 * 86_400, b"recorded")
    (note,) = tmp_path.rglob("retention.json")
    note.unlink()
    kept = tmp_path / "state" / "channels.json"
    state = json.loads(kept.read_text())
    state["channels"][0]["rules"] = [{"name": "r", "kind": "enter", "zone": "gone"}]
    kept.write_text(json.dumps(state))
    assert len(look(settings)) == 1
    with opened(settings) as monitoring:
        assert monitoring.catalogue.get("gate") is None
        monitoring.catalogue.delete("gate")
        monitoring.keeper.look()
        assert monitoring.files.paths == ()


def test_two_servers_do_not_share_a_folder_of_evidence(tmp_path: Path) -> None:
    shared = {"evidence": {"dir": tmp_path / "shared"}}
    with (
        opened(settings_in(tmp_path / "a", **shared)),
        pytest.raises(SettingsError, match=r"evidence\.dir .* is used by another server"),
    ):
        opened(settings_in(tmp_path / "b", **shared))
    opened(settings_in(tmp_path / "b", **shared)).close()
