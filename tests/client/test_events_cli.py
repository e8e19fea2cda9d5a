"""`vedette events`: what it says, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from support_watching import CLIP, JPEG, PENDING, T0, Monitor, Says, event, serving
from vedette.v1 import event_pb2
from vedette_client.cli.events_times import iso_time, read_time, show_span, show_time
from vedette_client.cli.files import write_whole
from vedette_client.cli.main import run
from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = "0001abcdefghijklmnopqrstuv"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VEDETTE_SERVER", "VEDETTE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def asking(capsys: Any, monitor: Monitor) -> Iterator[Says]:
    with serving(monitor) as server:
        yield Says(capsys, server.address)


def filled(count: int, **fields: Any) -> Monitor:
    monitor = Monitor()
    monitor.happen(*(event(number, **fields) for number in range(1, count + 1)))
    return monitor


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_the_list_is_a_table_the_newest_first(capsys) -> None:
    monitor = filled(2)
    monitor.happen(event(3, "yard", kind=4, rule="door-in", place="door", label="car", end_time=None, state=1))
    with asking(capsys, monitor) as vedette:
        title, heads, *found = rows(vedette("events", "list").out)
    assert title[0].startswith("events of 127.0.0.1:")
    assert heads[-3:] == ["seen by", "clip", "event"]
    assert [row[-1] for row in found] == ["0003abcd", "0002abcd", "0001abcd"]
    assert found[0][1:] == [
        *("yard", "cross", "door-in", "door", "car #t3", "4.5 s", "0.75", "active", "unseen", "ready", "0003abcd"),
    ]


def test_a_dwell_is_as_long_as_the_object_stayed_and_another_as_long_as_it_went_on(capsys) -> None:
    monitor = filled(1)  # its object stayed for 4.5 s, its event for 2.5 s
    plain = event(2)
    plain.measures.clear()
    monitor.happen(plain)
    with asking(capsys, monitor) as vedette:
        listed = rows(vedette("events", "list").out)[2:]
        watched = vedette("watch", "--events", "--since", "earliest", "--count", 2).out.splitlines()
    assert [row[6] for row in listed] == ["2.5 s", "4.5 s"]
    assert ["4.5 s" in line for line in watched] == [True, False]
    assert ["2.5 s" in line for line in watched] == [False, True]


def test_the_list_is_cut_and_says_so(capsys) -> None:
    with asking(capsys, filled(5)) as vedette:
        said = vedette("events", "list", "--limit", 2)
        assert [row[-1] for row in rows(said.out)[2:4]] == ["0005abcd", "0004abcd"]
        assert "and more; --limit N shows more than 2" in said.out
        assert "and more" not in vedette("events", "list", "--limit", 5).out


def test_the_list_can_be_narrowed_and_written_for_programs(capsys) -> None:
    monitor = filled(3)
    monitor.happen(event(4, "yard", rule="r", end_time=None, state=1), event(5, "shop"))
    with asking(capsys, monitor) as vedette:

        def found(*args: object) -> list[int]:
            said = vedette("events", "list", "--json", *args)
            assert said.code == 0, said.err
            return [json.loads(line)["record"] for line in said.out.splitlines()]

        assert found() == [5, 4, 3, 2, 1]
        assert found("--channel", "yard", "--channel", "shop") == [5, 4]
        assert found("--state", "active") == found("--rule", "r") == [4]
        assert found("--since", iso_time((T0 + 5) * 10**9), "--until", iso_time((T0 + 5) * 10**9)) == [4, 3]
        assert found("--until", "-1s", "--since", "-400000000s", "--limit", 1) == [5]
        assert found("--kind", "left") == []
        assert vedette("events", "list", "--kind", "left").out == "no events\n"


def test_all_facts_of_an_event_are_shown(capsys, tmp_path: Path) -> None:
    picture = tmp_path / "e.jpg"
    with asking(capsys, filled(1)) as vedette:
        vedette("events", "ack", FIRST, "--note", "a cat")
        said = vedette("events", "show", f"gate/{FIRST}", "--snapshot", picture)
        page = json.loads(vedette("events", "show", FIRST, "--json").out)
    facts = {row[0]: row[1:] for row in rows(said.out)}
    assert facts["event"] == [f"channels/gate/events/{FIRST}"]
    assert facts["what"] == ["enter (yard-enter)"]
    assert facts["measured"] == ["dwell_s 4.5"]
    assert facts["way"] == ["3 points, from 0.000 0.000 to 0.200 0.200"]
    assert facts["clip"] == ["ready, 256 kB, video/mp4"]
    assert facts["seen by"][0].startswith("desk (token front desk), ")
    assert page["acknowledgement"]["token"] == "front desk"
    assert facts["seen by"][0].endswith(": a cat")
    assert len(re.findall(r"sha256 [0-9a-f]{64}", said.out)) == 3
    assert picture.read_bytes() == JPEG + b"!"
    assert len(page["trail"]) == 3
    assert page["acknowledgement"]["note"] == "a cat"


def test_an_event_may_be_named_by_as_much_as_tells_it_from_the_others(capsys) -> None:
    monitor = filled(3)
    twin = event(4)
    twin.name = "channels/yard/events/0001abcdzzz"
    monitor.happen(twin)
    with asking(capsys, monitor) as vedette:
        assert "0002abcdefgh" in vedette("events", "show", "0002").out
        assert "channels/gate/events/0001" in vedette("events", "show", "gate/0001").out
        assert "channels/gate/events/0001" in vedette("events", "show", FIRST).out
        assert "channels/gate/events/0001" in vedette("events", "show", f"channels/gate/events/{FIRST}").out
        several = vedette("events", "show", "0001abcd")
        assert several.code == 2
        assert "2 begin so: channels/yard/events/0001abcdzzz, channels/gate/events/0001" in several.err
        assert vedette("events", "show", "000").code == 2
        said = vedette("events", "show", "--help")
        assert "4 or more, unique among the latest 10,000" in " ".join(re.sub(r"[│\s]+", " ", said.out).split())


def test_an_unknown_event_is_one_line_and_exit_code_1(capsys, tmp_path: Path) -> None:
    with asking(capsys, filled(1)) as vedette:
        for args in (["show", "none1"], ["ack", "gate/none"], ["clip", "none1", "-o", tmp_path / "c"]):
            said = vedette("events", *args)
            assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
            assert "NOT_FOUND" in said.err
        gone = vedette("events", "show", "gate/zzzzabcdefghijklmnopqrstuv")
        assert "there is no event" in gone.err
    assert list(tmp_path.iterdir()) == []


def test_acknowledging_takes_many(capsys) -> None:
    monitor = filled(3)
    with asking(capsys, monitor) as vedette:
        said = vedette("events", "ack", "0001", "gate/0003", "--user", "anna", "--note", "seen")
    assert said.out.splitlines() == [
        f"gate/{number}abcdefghijklmnopqrstuv: seen by anna" for number in ("0001", "0003")
    ]
    assert monitor.events[f"channels/gate/events/{FIRST}"].acknowledgement.note == "seen"


def test_an_unnamed_acknowledgement_is_told_as_such_and_a_note_that_was_not_kept_is_said(capsys) -> None:
    monitor = filled(2)
    monitor.nameless = True
    with asking(capsys, monitor) as vedette:
        assert vedette("events", "ack", "0001", "--note", "a cat").out == f"gate/{FIRST}: seen, unnamed\n"
        facts = {row[0]: row[1:] for row in rows(vedette("events", "show", "0001").out)}
        assert facts["seen by"][0].startswith("unnamed, ")
        assert facts["seen by"][0].endswith(": a cat")
        vedette("events", "ack", "0002", "--user", "anna")
        assert vedette("events", "ack", "0002").out == "gate/0002abcdefghijklmnopqrstuv: seen by anna\n"
        said = vedette("events", "ack", "0002", "--note", "a dog")
    assert (said.code, said.out) == (1, "gate/0002abcdefghijklmnopqrstuv: seen by anna\n")
    assert "gate/0002abcdefghijklmnopqrstuv: the note was not kept: " in said.err
    assert "give --user NAME" in said.err


def test_what_is_not_allowed_is_told_with_the_servers_words(capsys) -> None:
    monitor = filled(1)
    monitor.refuse["AcknowledgeEvent"] = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "acknowledge is missing")
    with asking(capsys, monitor) as vedette:
        said = vedette("events", "ack", FIRST)
    assert (said.code, said.err) == (1, "vedette events: acknowledge is missing (PERMISSION_DENIED, FORBIDDEN)\n")


def test_pictures_and_clips_are_written(capsys, tmp_path: Path) -> None:
    with asking(capsys, filled(1)) as vedette:
        said = vedette("events", "clip", "0001", "-o", tmp_path / "c.mp4", "--playable")
        assert "256000 bytes, transcoded, sha256 " in said.out
        for name in ("s.jpg", "S.JPEG", "s"):
            assert vedette("events", "snapshot", "0001", "-o", tmp_path / name).code == 0
        vedette("events", "snapshot", "0001", "-o", tmp_path / "a.jpg", "--annotated")
    assert (tmp_path / "c.mp4").read_bytes() == CLIP
    assert (tmp_path / "s.jpg").read_bytes() == JPEG
    assert (tmp_path / "a.jpg").read_bytes() == JPEG + b"!"


def test_a_clip_that_is_not_what_its_hash_says_leaves_no_file(capsys, tmp_path: Path) -> None:
    monitor = filled(1)
    monitor.clip = CLIP[:-1] + b"?"
    with asking(capsys, monitor) as vedette:
        said = vedette("events", "clip", "0001", "-o", tmp_path / "c.mp4")
    assert said.code == 1
    assert "than its event says" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_not_ready_is_told(capsys, tmp_path: Path) -> None:
    with asking(capsys, filled(1, clip=event_pb2.Evidence(state=PENDING))) as vedette:
        said = vedette("events", "clip", "0001", "-o", tmp_path / "c.mp4", "--wait", 0)
    assert (said.code, said.err) == (1, "vedette events: the clip is being written (UNAVAILABLE)\n")


def test_an_export_has_the_events_the_head_and_the_evidence(capsys, tmp_path: Path) -> None:
    monitor = filled(3)
    monitor.events[f"channels/gate/events/{FIRST}"].clip.state = event_pb2.EVIDENCE_STATE_EXPIRED
    monitor.happen(event(4, ".."))
    out, head, files = tmp_path / "e.jsonl", tmp_path / "head.json", tmp_path / "files"
    with asking(capsys, monitor) as vedette:
        args = ("events", "export", "-o", out, "--head", head, "--with-evidence", files, "--trails")
        said = vedette(*args)
        assert said.code == 0, said.err
        assert f"{out}: 4 events, 11 files in {files}" in said.out
        asked = len(monitor.asked)
        vedette(*args)
        fetched = [type(one).__name__ for one in monitor.asked[asked:]]
    *lines, last = (json.loads(line) for line in out.read_text().splitlines())
    assert [line["record"] for line in lines] == [4, 3, 2, 1]
    assert len(lines[0]["trail"]) == 3
    assert last["chain_head"] == json.loads(head.read_text())
    assert sorted(str(one.relative_to(files)) for one in files.rglob("*.mp4")) == [
        "_../0004abcdefghijklmnopqrstuv.mp4",
        "gate/0002abcdefghijklmnopqrstuv.mp4",
        "gate/0003abcdefghijklmnopqrstuv.mp4",
    ]
    assert (files / "gate" / f"{FIRST}.annotated.jpg").read_bytes() == JPEG + b"!"
    assert "GetEventClipRequest" not in fetched
    assert sorted(one.name for one in tmp_path.iterdir()) == ["e.jsonl", "files", "head.json"]


def test_an_export_goes_on_when_a_file_cannot_be_fetched_and_ends_with_1(capsys, tmp_path: Path) -> None:
    monitor = filled(2)
    monitor.end_clip_early = 10
    with asking(capsys, monitor) as vedette:
        said = vedette("events", "export", "-o", tmp_path / "e.jsonl", "--with-evidence", tmp_path / "files")
    assert said.code == 1
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 3
    assert said.err.count("has 10 bytes, not 256000") == 2
    assert list((tmp_path / "files").rglob("*.mp4")) == []


def test_an_export_that_fails_leaves_the_earlier_one(capsys, tmp_path: Path) -> None:
    monitor = filled(2)
    monitor.refuse["GetChainHead"] = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "administer is missing")
    (tmp_path / "e.jsonl").write_text("earlier\n")
    with asking(capsys, monitor) as vedette:
        assert vedette("events", "export", "-o", tmp_path / "e.jsonl").code == 1
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("e.jsonl", "earlier\n")]


@pytest.mark.parametrize(
    "args",
    [
        ["clip", FIRST, "-o"],
        ["snapshot", FIRST, "-o"],
        ["show", FIRST, "--snapshot"],
        ["export", "-o"],
        ["export", "--head"],
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anybody_is_asked(
    args: list[str], capsys, tmp_path: Path
) -> None:
    for place, why in ((tmp_path, "a folder is there"), (tmp_path / "no" / "f", f"there is no folder {tmp_path}/no")):
        assert run(["events", *args, str(place), "--server", "127.0.0.1:1"]) == 2
        said = capsys.readouterr().err
        assert f"{args[-1]} is {str(place)!r}; {why}; allowed: " in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["events", "snapshot", FIRST, "-o"], ["events", "show", FIRST, "--snapshot"]])
def test_a_jpeg_gets_no_name_that_says_something_else(args: list[str], capsys, tmp_path: Path) -> None:
    place = str(tmp_path / "x.png")
    assert run([*args, place, "--server", "127.0.0.1:1"]) == 2
    why = "the picture is a JPEG; allowed: a name that ends in .jpg or .jpeg, or has no ending"
    assert f"{args[-1]} is {place!r}; {why}" in capsys.readouterr().err


def test_evidence_goes_to_a_folder_that_is_made_but_not_to_one_within_nothing(capsys, tmp_path: Path) -> None:
    args = ["events", "export", "-o", str(tmp_path / "e"), "--with-evidence", str(tmp_path / "no" / "files")]
    assert run([*args, "--server", "127.0.0.1:1"]) == 2
    assert f"there is no folder {tmp_path}/no" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_whole_leaves_the_earlier_one(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "s.jpg"
    write_whole(path, b"earlier")

    def full(_descriptor: int) -> None:
        raise OSError(28, "no space left on the device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"later")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("s.jpg", b"earlier")]


@pytest.mark.parametrize("args", [[], ["--with-evidence", "x", "--head", "h"]])
def test_an_export_to_nowhere_is_refused(args: list[str], capsys) -> None:
    assert run(["events", "export", *args, "--server", "127.0.0.1:1"]) == 2
    assert "give -o FILE" in capsys.readouterr().err


def test_a_chain_that_is_sound_is_said_to_be(capsys, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    monitor = filled(3)
    with asking(capsys, monitor) as vedette:
        assert "3 records, abababababababab..., signed" in vedette("events", "export", "--head", head).out
        said = vedette("events", "verify", "--head", head, "--files")
        assert (said.code, said.out.splitlines()[0]) == (0, "3 records and 9 files checked, all is well")
        vedette("events", "export", "-o", tmp_path / "e.jsonl")
        assert vedette("events", "verify", "--head", tmp_path / "e.jsonl").code == 0
    assert monitor.asked[-1].head == monitor.head()


def test_what_does_not_fit_is_listed_and_ends_with_1(capsys) -> None:
    monitor = filled(3)
    monitor.findings = [["record 2: the content was changed"], ["record 3: its hash does not follow"]]
    with asking(capsys, monitor) as vedette:
        said = vedette("events", "verify")
    assert said.code == 1
    assert said.out.splitlines() == ["record 2: the content was changed", "record 3: its hash does not follow"]
    assert said.err == "vedette events verify: 2 findings in 3 records\n"


def test_a_head_that_was_forged_or_is_of_another_store_is_found_out_here(capsys, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    with asking(capsys, filled(3)) as vedette:
        vedette("events", "export", "--head", head)
    with asking(capsys, filled(3)) as vedette:  # all of it written anew, with a key of its own
        said = vedette("events", "verify", "--head", head)
        assert said.code == 1
        assert "the server signs with another key than the head that was kept" in said.out
        page = json.loads(head.read_text())
        head.write_text(json.dumps(page | {"length": "2"}))
        said = vedette("events", "verify", "--head", head)
    assert f"the head in {head}: the head of 2 records is not signed with its key" in said.out


def test_without_the_library_that_checks_signatures_that_is_said(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with asking(capsys, filled(1)) as vedette:
        said = vedette("events", "verify")
    assert said.code == 0
    assert "is not checked here: pip install 'vedette[verify]'" in said.err


@pytest.mark.parametrize("text", [None, "nonsense", '{"chain_head": 3}', "\xff"])
def test_a_file_that_holds_no_head_is_refused(text: str | None, capsys, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    if text is not None:
        head.write_bytes(text.encode("latin-1"))
    with asking(capsys, Monitor()) as vedette:
        said = vedette("events", "verify", "--head", head)
    assert said.code == 2
    assert str(head) in said.err


def test_no_server_and_one_that_keeps_no_events_are_told(capsys) -> None:
    assert run(["events", "list", "--server", "127.0.0.1:1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
    with serving(absent=True) as server:
        said = Says(capsys, server.address)("events", "list")
    assert (said.code, said.out) == (1, "")
    assert "keeps no events; it does when it is started with --state DIR or --channels FILE" in said.err


@pytest.mark.parametrize("command", ["list", "show", "ack", "snapshot", "clip", "export", "verify"])
def test_every_option_tells_its_default(command: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert run(["events", command, "--help"]) == 0
    page = capsys.readouterr().out
    options = [line for line in page.splitlines() if re.match(r"│\s+--", line) and "<bool>" not in line]
    assert options
    assert [line for line in options if "efault: " not in line and "required" not in line] == []


def test_events_alone_shows_the_commands(capsys) -> None:
    run(["events"])
    page = capsys.readouterr().out
    assert all(name in page for name in ("list", "show", "ack", "snapshot", "clip", "export", "verify"))


@pytest.mark.parametrize(
    ("text", "before_s"),
    [
        ("-90s", 90),
        ("-1h", 3600),
        ("2d", 2 * 86400),
        ("-1.5h", 5400),
        ("1w ago", 7 * 86400),
        ("-30 m", 1800),
        ("now", 0),
    ],
)
def test_a_time_may_be_so_long_ago(text: str, before_s: float) -> None:
    assert read_time(text, "--since", NOW) == round((NOW.timestamp() - before_s) * 1e9)


def test_a_time_may_be_a_time_of_iso_with_and_without_its_zone() -> None:
    zoned = datetime(2026, 11, 21, 18, 0, tzinfo=timezone(timedelta(hours=1)))
    assert read_time("2026-11-21T18:00:00+01:00", "--since") == round(zoned.timestamp()) * 10**9
    assert read_time("2026-11-21 18:00", "--since") == round(datetime(2026, 11, 21, 18).timestamp()) * 10**9
    assert read_time("2026-11-21", "--since") == round(datetime(2026, 11, 21).timestamp()) * 10**9
    today = NOW.astimezone().replace(hour=8, minute=5)
    assert read_time("8:05", "--since", NOW) == round(today.timestamp()) * 10**9


@pytest.mark.parametrize("text", ["", "yesterday", "-1x", "25:00", "2026-13-01", "-1e9d", "-99999999999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(OptionsError, match=r"--since is .*; allowed: -90s"):
        read_time(text, "--since", NOW)


def test_times_and_spans_are_shown_for_people_and_programs() -> None:
    assert iso_time(T0 * 10**9) == "2026-09-21T14:13:20Z"
    assert iso_time(T0 * 10**9 + 5) == "2026-09-21T14:13:20.000000005Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.1 \S+", show_time(T0 * 10**9 + 123_000_000))
    assert show_time(2**63 * 1000).endswith(" s")
    spans = {0: "0.0 s", 59.96: "60.0 s", 61: "1 min 1 s", 3600: "1 h 0 min", 90000: "1 d 1 h"}
    assert {seconds: show_span(seconds) for seconds in spans} == spans
