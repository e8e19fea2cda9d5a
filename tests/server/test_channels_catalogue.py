"""The catalogue of channels: what is made stays, what is told is kept, and the file that people write wins."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_channels import SECRET_URL, SHOWN_URL, FailingDisk, catalogue_of, record_of, with_rule
from vedette.v1 import channel_pb2
from vedette_server.channels import catalogue as catalogue_module
from vedette_server.data.rules import Cross, Dwell, EvidencePolicy, Rule
from vedette_server.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    OutdatedError,
    SettingsError,
    StateError,
    UnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.channels.catalogue import ChannelCatalogue
    from vedette_server.data.channel import ChannelRecord

ONE = '[[channels]]\nname = "gate"\ndisplay_name = "from the file"\n'


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "state/channels.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "channels.toml"
    path.write_text(ONE)
    return path


def rewrite(catalogue: ChannelCatalogue, file: Path, text: str) -> bool:
    """Write the file anew and let time pass until it is read."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)
    return catalogue.reload() or catalogue.reload()


def told_by(catalogue: ChannelCatalogue) -> list[tuple[str, int | None]]:
    told: list[tuple[str, int | None]] = []
    catalogue.listen(lambda name, record: told.append((name, record and record.revision)))
    return told


# -- made, changed, deleted --


def test_channels_are_listed_by_name(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    for name in ("yard", "gate", "lobby"):
        catalogue.create(record_of(name))
    assert [record.name for record in catalogue.records()] == ["gate", "lobby", "yard"]
    assert catalogue.get("nowhere") is None


def test_a_channel_has_its_times_and_counts_its_changes(kept: Path) -> None:
    times = iter((100.0, 200.0))
    catalogue = catalogue_of(kept, clock=lambda: next(times))
    made = catalogue.create(replace(record_of(), create_s=5.0, from_file=True))
    assert (made.revision, made.create_s, made.update_s, made.from_file) == (1, 100.0, 100.0, False)
    changed = catalogue.update(replace(made, display_name="Gate"))
    assert (changed.revision, changed.create_s, changed.update_s) == (2, 100.0, 200.0)
    assert catalogue.get("gate") == changed


def test_a_channel_is_not_made_twice(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of())
    with pytest.raises(ConflictError) as caught:
        catalogue.create(record_of())
    assert caught.value.reason == "CHANNEL_EXISTS"


def test_only_the_named_fields_change(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    made = catalogue.create(record_of())
    new = replace(
        record_of(), display_name="new", watch=replace(made.watch, evidence=EvidencePolicy.MASKED, rules=(), revision=0)
    )
    changed = catalogue.update(new, frozenset({"evidence"}))
    assert changed.watch.evidence is EvidencePolicy.MASKED
    assert (changed.display_name, changed.watch.rules) == ("", made.watch.rules)
    everything = catalogue.update(new)
    assert (everything.display_name, everything.watch.rules) == ("new", ())


@pytest.mark.parametrize("field", ["name", "create_time", "rules.name", "revision"])
def test_what_no_update_may_name_is_refused(kept: Path, field: str) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of())
    with pytest.raises(InvalidError, match=f"update_mask is '{field}'; allowed: display_name, evidence"):
        catalogue.update(record_of(), frozenset({field}))


def test_every_field_that_an_update_may_name_is_one_of_the_contract() -> None:
    said_by_the_server = {"name", "revision", "create_time", "update_time", "status"}
    assert set(channel_pb2.Channel.DESCRIPTOR.fields_by_name) - said_by_the_server == catalogue_module.CHANGEABLE


def test_an_update_of_what_somebody_else_changed_meanwhile_is_refused(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    made = catalogue.create(record_of())
    catalogue.update(replace(made, display_name="theirs"))
    with pytest.raises(OutdatedError, match="at revision 2, not 1") as caught:
        catalogue.update(replace(made, display_name="mine"))
    assert caught.value.metadata["revision"] == "2"
    anyway = replace(made, display_name="mine", watch=replace(made.watch, revision=0))
    assert catalogue.update(anyway).revision == 3


def test_an_update_that_changes_nothing_is_told_to_nobody(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    made = catalogue.create(record_of())
    told = told_by(catalogue)
    assert catalogue.update(made) is made
    assert told == []


def test_what_is_not_there_is_neither_changed_nor_deleted(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    for change in (lambda: catalogue.update(record_of()), lambda: catalogue.delete("gate")):
        with pytest.raises(NotFoundError) as caught:
            change()
        assert caught.value.reason == "UNKNOWN_CHANNEL"
        assert "it was never made, or is deleted" in caught.value.message


def test_a_bad_channel_changes_nothing(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    made = catalogue.create(record_of())
    told = told_by(catalogue)
    with pytest.raises(InvalidError) as caught:
        catalogue.update(with_rule(made, Rule("r", Cross("wall"))))
    assert caught.value.reason == "UNKNOWN_LINE"
    with pytest.raises(InvalidError):
        catalogue.create(record_of("a b"))
    assert (catalogue.records(), told) == ((made,), [])
    assert catalogue_of(kept).records() == (made,)


def test_there_are_at_most_so_many_channels(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(catalogue_module, "MOST_CHANNELS", 2)
    catalogue = catalogue_of(None, file)
    catalogue.create(record_of("a"))
    with pytest.raises(LimitError) as caught:
        catalogue.create(record_of("b"))
    assert caught.value.reason == "TOO_MANY_CHANNELS"
    assert not rewrite(catalogue, file, ONE + '[[channels]]\nname = "other"')
    with pytest.raises(SettingsError, match=r"has 3 channels, with the kept ones 3; allowed: 2"):
        file.write_text("".join(f"[[channels]]\nname = '{name}'\n" for name in "abc"))
        catalogue_of(None, file)


# -- who is told --


def test_each_change_is_told_once_and_in_order(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    told = told_by(catalogue)
    made = catalogue.create(record_of())
    catalogue.update(replace(made, display_name="x"))
    catalogue.delete("gate")
    assert told == [("gate", 1), ("gate", 2), ("gate", None)]


def test_who_no_longer_listens_is_told_nothing(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    told: list[str] = []
    end = catalogue.listen(lambda name, _: told.append(name))
    catalogue.create(record_of("a"))
    end()
    end()
    catalogue.create(record_of("b"))
    assert told == ["a"]


def test_a_listener_that_fails_keeps_nobody_from_hearing(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = catalogue_of(kept)
    catalogue.listen(lambda name, _: 1 / 0)
    told = told_by(catalogue)
    catalogue.create(record_of())
    assert told == [("gate", 1)]
    assert "a change of a channel was not taken note of: gate" in caplog.text


def test_a_change_is_there_and_on_the_disk_before_it_is_told(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    seen: list[object] = []
    catalogue.listen(lambda name, record: seen.append((catalogue.get(name) is record, catalogue_of(kept).get(name))))
    made = catalogue.create(record_of())
    assert seen == [(True, made)]


def test_changes_of_many_threads_are_all_made_and_told_in_order(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    made = catalogue.create(record_of())
    told = told_by(catalogue)

    def change(number: int) -> None:
        for turn in range(5):
            again = replace(made, display_name=f"{number}.{turn}", watch=replace(made.watch, revision=0))
            catalogue.update(again)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert told == [("gate", revision) for revision in range(2, 22)]


# -- kept --


def test_what_was_made_is_there_after_a_restart(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of("yard", SECRET_URL))
    catalogue.create(record_of("gate"))
    catalogue.update(replace(record_of("gate"), display_name="Gate"))
    catalogue.create(record_of("lobby"))
    catalogue.delete("lobby")
    assert catalogue_of(kept).records() == catalogue.records()
    # It holds passwords.
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("step", ["write", "sync file", "rename", "sync folder"])
@pytest.mark.parametrize("change", ["create", "update", "delete"])
def test_a_disk_that_fails_leaves_the_old_channels_or_the_new_never_half(kept: Path, step: str, change: str) -> None:
    disk = FailingDisk()
    catalogue = catalogue_of(kept, disk=disk)
    old = (catalogue.create(record_of("a")), catalogue.create(record_of("b")))
    told = told_by(catalogue)
    disk.fails_at = step
    with pytest.raises(UnavailableError) as caught:
        _CHANGES[change](catalogue)
    assert caught.value.reason == "CHANNELS_NOT_KEPT"
    assert "no space left" in caught.value.message
    assert (catalogue.records(), told) == (old, [])
    after = catalogue_of(kept).records()
    assert after == old or (step == "sync folder" and {record.name for record in after} in _AFTER[change])
    disk.fails_at = ""
    _CHANGES[change](catalogue)
    assert len(told) == 1
    assert catalogue_of(kept).records() == catalogue.records()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


_CHANGES = {
    "create": lambda catalogue: catalogue.create(record_of("c")),
    "update": lambda catalogue: catalogue.update(replace(record_of("a"), display_name="new")),
    "delete": lambda catalogue: catalogue.delete("a"),
}
_AFTER = {"create": [{"a", "b", "c"}], "update": [{"a", "b"}], "delete": [{"b"}]}


MAKING = """
import itertools, pathlib, sys
sys.path[:0] = sys.argv[2:]
from support_channels import catalogue_of, record_of
catalogue = catalogue_of(pathlib.Path(sys.argv[1]))
catalogue.listen(lambda name, record: print(name, flush=True))
for number in itertools.count(len(catalogue.records())):
    catalogue.create(record_of(f"c{number:04}"))
"""


def test_a_server_that_is_killed_has_kept_what_it_told(kept: Path) -> None:
    told: list[str] = []
    for lines in (1, 7):
        command = [sys.executable, "-c", MAKING, str(kept), *sys.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told += [process.stdout.readline().strip() for _ in range(lines)]
            process.kill()
            told += process.stdout.read().split()
        names = [record.name for record in catalogue_of(kept).records()]
        assert names[: len(told)] == told
        # The one that was kept, but not told any more.
        assert len(names) - len(told) in {0, 1}
        told = names


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["make", "change", "delete", "restart"])), max_size=15)
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_a_restart_finds_it_all(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    kept = tmp_path / "any.json"
    kept.unlink(missing_ok=True)
    catalogue, model = catalogue_of(kept), dict[str, str]()
    for turn, (name, step) in enumerate(steps):
        new = replace(record_of(name), display_name=str(turn))
        try:
            if step == "make":
                catalogue.create(new)
            elif step == "change":
                catalogue.update(new)
            elif step == "delete":
                catalogue.delete(name)
            else:
                catalogue = catalogue_of(kept)
        except (ConflictError, NotFoundError) as error:
            assert (step == "make") == (name in model) == isinstance(error, ConflictError)
            continue
        if step == "delete":
            del model[name]
        elif step != "restart":
            model[name] = str(turn)
        assert {record.name: record.display_name for record in catalogue.records()} == model
    assert catalogue_of(kept).records() == catalogue.records()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "it is []; allowed: a table"),
        ('{"version": 2, "channels": []}', "version is 2; allowed: 1: that is what this server knows"),
        ('{"version": 1}', "channels is None; allowed: a list"),
        ('{"version": 1, "channels": [3]}', "channels[0] is 3; allowed: a table"),
        ('{"version": 1, "channels": [{"name": "a", "colour": 1}]}', "channel 'a': unknown key colour"),
        ('{"version": 1, "channels": [{"name": "a", "revision": "x"}]}', "revision is 'x'; allowed: a whole number"),
        ('{"version": 1, "channels": [{"name": "a"}, {"name": "a"}]}', "channel 'a' is there twice"),
    ],
)
def test_a_broken_or_a_newer_file_of_kept_channels_stops_the_server(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "channels.json"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        catalogue_of(file)
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert file.read_text() == text


def test_a_kept_channel_that_is_refused_by_now_is_left_out_and_can_be_mended_or_deleted(
    kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = catalogue_of(kept)
    for name in ("a", "b", "c"):
        catalogue.create(record_of(name))
    state = json.loads(kept.read_text())
    for tree in state["channels"][:2]:
        tree["rules"][0]["zone"] = "gone"
    kept.write_text(json.dumps(state))
    with caplog.at_level(logging.ERROR):
        catalogue = catalogue_of(kept)
    assert "a kept channel is not in force: a" in caplog.text
    assert [record.name for record in catalogue.records()] == ["c"]
    assert [record.name for record in catalogue.refused()] == ["a", "b"]
    catalogue.create(record_of("d"))
    told = told_by(catalogue)
    catalogue.update(record_of("a"))
    catalogue.delete("b")
    assert [record.name for record in catalogue.records()] == ["a", "c", "d"]
    assert told == [("a", 2)]
    assert catalogue.refused() == ()
    assert catalogue_of(kept).records() == catalogue.records()


# -- passwords --


def url_of(record: ChannelRecord | None) -> str:
    assert record is not None
    assert record.source is not None
    return record.source.url


def test_an_update_with_the_hidden_password_keeps_the_kept_one(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of(url=SECRET_URL))
    catalogue.update(replace(record_of(url=SHOWN_URL), display_name="x"))
    assert url_of(catalogue.get("gate")) == SECRET_URL
    moved = catalogue.update(record_of(url=SHOWN_URL.replace("stream1", "stream2")))
    assert url_of(moved) == SECRET_URL.replace("stream1", "stream2")
    new = catalogue.update(record_of(url=SECRET_URL.replace("hunter2", "swordfish")))
    assert "swordfish" in url_of(new)


@pytest.mark.parametrize(
    "url",
    [
        SHOWN_URL.replace("10.0.0.7", "10.6.6.6"),
        SHOWN_URL.replace("554", "555"),
        SHOWN_URL.replace("viewer", "admin"),
        SHOWN_URL.replace("rtsp", "http"),
    ],
)
def test_a_kept_password_is_sent_to_nobody_else(kept: Path, url: str) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of(url=SECRET_URL))
    with pytest.raises(InvalidError) as caught:
        catalogue.update(record_of(url=url))
    assert caught.value.reason == "HIDDEN_PASSWORD"
    assert "hunter2" not in caught.value.message
    assert url_of(catalogue.get("gate")) == SECRET_URL


def test_a_channel_is_not_made_with_a_hidden_password(kept: Path) -> None:
    with pytest.raises(InvalidError) as caught:
        catalogue_of(kept).create(record_of(url=SHOWN_URL))
    assert caught.value.reason == "HIDDEN_PASSWORD"


def test_passwords_in_a_query_are_kept_one_by_one(kept: Path) -> None:
    catalogue = catalogue_of(kept)
    catalogue.create(record_of(url="http://cam/video?user=a&password=one&token=two&fps=5"))
    changed = catalogue.update(record_of(url="http://cam/video?user=a&password=***&token=three&fps=6"))
    assert url_of(changed) == "http://cam/video?user=a&password=one&token=three&fps=6"


# -- the file that people write --


def test_the_file_wins_over_a_kept_channel_until_it_no_longer_has_it(
    kept: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue_of(kept).create(replace(record_of(), display_name="kept"))
    catalogue = catalogue_of(kept, file)
    told = told_by(catalogue)
    found = catalogue.get("gate")
    assert found is not None
    assert (found.display_name, found.from_file, found.revision) == ("from the file", True, 2)
    assert "the file's holds: gate" in caplog.text
    assert rewrite(catalogue, file, '[[channels]]\nname = "other"\n')
    back = catalogue.get("gate")
    assert back is not None
    assert (back.display_name, back.from_file, back.revision) == ("kept", False, 3)
    assert told == [("gate", 3), ("other", 1)]
    assert catalogue.update(replace(back, display_name="x")).revision == 4


def test_a_file_that_lost_all_its_channels_changes_nothing_and_is_told_of(
    kept: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = catalogue_of(kept, file)
    assert not rewrite(catalogue, file, "")
    assert catalogue.get("gate") is not None
    assert "channels not reloaded" in caplog.text
    assert any("has no channel any more; it had 1" in str(vars(record)) for record in caplog.records)


def test_a_channel_of_the_file_is_changed_only_there(kept: Path, file: Path) -> None:
    catalogue = catalogue_of(kept, file)
    for change in (lambda: catalogue.update(record_of()), lambda: catalogue.delete("gate")):
        with pytest.raises(StateError) as caught:
            change()
        assert caught.value.reason == "CHANNEL_FROM_FILE"
    with pytest.raises(ConflictError):
        catalogue.create(record_of())
    assert not kept.exists()


def test_a_changed_file_changes_the_channels_that_it_changes(kept: Path, file: Path) -> None:
    file.write_text('[[channels]]\nname = "a"\n[[channels]]\nname = "b"\n[[channels]]\nname = "c"\n')
    times = iter(float(number) for number in range(10))
    catalogue = catalogue_of(kept, file, clock=lambda: next(times))
    before = catalogue.get("a")
    told = told_by(catalogue)
    text = '[[channels]]\nname = "a"\n[[channels]]\nname = "b"\ndisplay_name = "B"\n[[channels]]\nname = "d"\n'
    assert rewrite(catalogue, file, text)
    assert told == [("b", 2), ("c", None), ("d", 1)]
    assert catalogue.get("a") is before
    changed = catalogue.get("b")
    assert changed is not None
    assert changed.create_s < changed.update_s


def test_a_file_that_is_still_being_written_is_not_read(kept: Path, file: Path) -> None:
    catalogue = catalogue_of(kept, file)
    told = told_by(catalogue)
    file.write_text("")
    assert not catalogue.reload()
    file.write_text(ONE)
    assert not catalogue.reload()
    assert not catalogue.reload()
    assert told == []


def test_an_unchanged_file_is_not_read_again(kept: Path, file: Path) -> None:
    checked: list[str] = []
    catalogue = catalogue_module.ChannelCatalogue(kept, file, lambda record: checked.append(record.name))
    for _ in range(5):
        assert not catalogue.reload()
    assert checked == ["gate"]


@pytest.mark.parametrize("text", ["[[channels]", '[[channels]]\nname = "gate"\nzone = 3'])
def test_a_broken_file_leaves_all_as_it_was_and_is_told_once(
    kept: Path, file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = catalogue_of(kept, file)
    told = told_by(catalogue)
    for _ in range(3):
        assert not rewrite(catalogue, file, text)
    assert told == []
    assert [record.message for record in caplog.records] == ["channels not reloaded, the old ones stay"]
    assert rewrite(catalogue, file, ONE.replace("file", "mended file"))
    assert told == [("gate", 2)]


def test_a_file_that_goes_away_takes_no_channel_with_it(
    kept: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = catalogue_of(kept, file)
    file.unlink()
    for _ in range(3):
        assert not catalogue.reload()
    assert catalogue.get("gate") is not None
    assert len(caplog.records) == 1


def test_a_broken_file_stops_a_server_that_starts(tmp_path: Path) -> None:
    file = tmp_path / "channels.toml"
    file.write_text("[[channels]]\nname = 'gate'\nrules = [{name = 'r', kind = 'cross', line = 'wall'}]")
    with pytest.raises(
        SettingsError, match=r"channel 'gate': rules\.r\.line is 'wall'; no line is configured; allowed: one"
    ):
        catalogue_of(None, file)


def test_channels_without_a_place_to_keep_them_are_there_until_the_server_stops() -> None:
    catalogue = catalogue_of()
    made = catalogue.create(with_rule(record_of(), Rule("r", Dwell("yard", 1.0))))
    assert catalogue.records() == (made,)
    assert not catalogue.reload()
