"""`vedette engine` on a running server: the real service, and a control that runs no engine."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import support_cli
from support_steering import FakeControl, picture, sample, steering_server
from vedette_client.cli.engine_frames import FrameFolder, folder_name
from vedette_client.cli.engine_remote import read_share
from vedette_client.cli.main import run
from vedette_client.drawing.compared import draw_sample
from vedette_client.engine_info import SampledFrame, ShadowFinding, ShadowSample
from vedette_client.errors import OptionsError
from vedette_server.data.engine import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

FOLLOWS = ["a", "newer", "one", "takes", "over", "by", "itself"]
TOKENS = """
[[tokens]]
name = "desk"
token = "desk-secret"
channels = ["*"]
permissions = ["watch"]
"""


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VEDETTE_SERVER", "VEDETTE_TOKEN", "VEDETTE_ENGINES_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def said(*args: str | Path) -> Said:
        code = run(["engine", *map(str, args)])
        found = capsys.readouterr()
        return Said(code, found.out, found.err)

    return said


@asynccontextmanager
async def asking(
    control: FakeControl, say: Callable[..., Said], tokens: Path | None = None
) -> AsyncIterator[Callable[..., object]]:
    async with steering_server(control, tokens) as address:
        yield lambda *args: asyncio.to_thread(say, *args, "--server", address)


def words(text: str, start: str) -> list[str]:
    """The words of the line that starts so."""
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_the_help_shows_the_commands_here_and_those_on_a_server(say, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = say("--help").out
    here, _, there = page.partition("Commands on a running server (--server HOST:PORT)")
    assert {"import", "verify", "list", "inspect"} <= set(re.findall(r"│ ([a-z]+) ", here))
    assert {"load", "unload", "route", "promote", "shadow", "frames"} <= set(re.findall(r"│ ([a-z]+) ", there))
    assert re.search(r"With --server HOST:PORT inspect.* and .*list.* ask a running server, too|inspect, list", page)


def test_without_a_server_the_repository_here_is_listed(say, tmp_path) -> None:
    said = say("list", "--engines-dir", tmp_path)
    assert said.code == 0
    assert "BACKENDS" in said.out


async def test_with_a_server_its_engines_are_listed(control, say) -> None:
    control.all["person", "1"] = replace(control.all["person", "1"], fallback="model.plan is for another GPU")
    control.routes["person"] = replace(control.routes["person"], canary="2", canary_share=0.125)
    async with asking(control, say) as ask:
        said = await ask("list")
    assert said.code == 0
    assert words(said.out, "person")[:3] == ["person", "3", "available"]
    assert words(said.out, "2 ")[:4] == ["2", "available", "canary", "12.5%"]
    assert "stable" in words(said.out, "1 ")
    assert "CPU fp32, 2 lanes, batch 8" in said.out
    assert "torn 1 bad: model.onnx: its sha256 differs" in said.out
    assert "person 1 runs model.onnx: model.plan is for another GPU" in said.out


async def test_the_server_may_stand_before_the_command_line_ends_or_with_an_equals_sign(control, say) -> None:
    async with steering_server(control) as address:
        said = await asyncio.to_thread(say, "inspect", f"--server={address}", "person@1")
        assert words(said.out, "runs on")[2:4] == ["CPU", "fp32,"]
        assert "person 2" not in said.out
        said = await asyncio.to_thread(say, "inspect", "--server", address, "person")
        assert words(said.out, "revision") == ["revision", "0,", "kept", "over", "a", "restart"]
        said = await asyncio.to_thread(say, "inspect", "person@9", "--server", address)
    assert (said.code, said.err) == (2, "vedette engine: engine person has no version 9; there are 3, 2, 1\n")


async def test_commands_for_a_server_alone_take_it_from_the_environment(control, say, monkeypatch) -> None:
    async with steering_server(control) as address:
        monkeypatch.setenv("VEDETTE_SERVER", address)
        said = await asyncio.to_thread(say, "load", "person@2")
    assert (said.code, said.out) == (0, "person 2: ready on CPU fp32, 2 lanes, batch 8, 12.3 MB\n")


async def test_the_way_of_a_version_from_canary_to_stable_and_back(control, say) -> None:
    async with asking(control, say) as ask:
        assert "No channel runs the canary yet" in (await ask("route", "person", "--canary", "2")).out
        page = (await ask("route", "person", "--canary", "2", "--share", "10%")).out
        assert "No channel" not in page
        assert words(page, "canary") == ["canary", "2,", "10%"]
        assert words((await ask("route", "person", "--share", "0.2")).out, "canary") == ["canary", "2,", "20%"]
        assert words((await ask("promote", "person")).out, "stable") == ["stable", "2,", *FOLLOWS]
        assert words((await ask("rollback", "person")).out, "stable")[1] == "1,"
        page = (await ask("route", "person", "--stable", "3", "--shadow", "2", "--revision", "5")).out
        assert words(page, "stable") == ["stable", "3,", "pinned"]
        assert words(page, "shadow") == ["shadow", "2"]
        page = (await ask("route", "person", "--stable", "newest", "--shadow", "none", "--canary", "none")).out
        assert words(page, "stable") == ["stable", "3,", *FOLLOWS]
        assert words(page, "shadow") == ["shadow", "none"]
        assert (await ask("route", "person")).out == page
        assert (await ask("unload", "person@1")).out == "person 1: available\n"


@pytest.mark.parametrize(
    ("args", "code", "err"),
    [
        (("unload", "person"), 2, "which version of person to unload is not said; person@VERSION is wanted"),
        (("unload", "person@1"), 1, "engine person 1 is the stable version (FAILED_PRECONDITION, ENGINE_IN_USE)"),
        (("promote", "scene"), 1, "neither a canary nor a shadow (FAILED_PRECONDITION, NOTHING_TO_PROMOTE)"),
        (("route", "person", "--shadow", "2", "--revision", "5"), 1, "not 5 (ABORTED, ROUTE_CHANGED)"),
        (("route", "person", "--revision", "5"), 2, "--revision is for a change"),
        (("route", "person", "--share", "30"), 2, "--share is '30'; allowed: 0% to 100%, or 0 to 1"),
        (("route", "a/b"), 1, "name is 'engines/a/b/route'; allowed: engines/{engine}/route"),
        (("shadow", "person"), 1, "(NOT_FOUND, NO_SHADOW)"),
        (("frames", "scene", "-o", "frames"), 1, "no version of engine 'scene' is loaded"),
        (("load", "person", "--timeout", "x"), 2, "Invalid value for '--timeout'"),
    ],
)
async def test_what_goes_wrong_gets_one_line_and_an_exit_code(
    control, say, args, code, err, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with asking(control, say) as ask:
        said = await ask(*args)
    assert said.code == code
    assert err in said.err
    assert said.err.count("\n") == 1


async def test_a_shadow_is_shown_in_totals_and_samples(control, say) -> None:
    control.routes["person"] = Route("person", stable="1", shadow="2")
    control.samples = [sample(index) for index in range(1, 16)]
    async with asking(control, say) as ask:
        page = (await ask("shadow", "person", "--samples", "3")).out
    assert "person: shadow 2 against stable 1" in page
    assert words(page, "frames compared") == ["frames", "compared", "200", "86.6%", "of", "231"]
    assert words(page, "frames that differ") == ["frames", "that", "differ", "12", "6%", "of", "those", "compared"]
    assert words(page, "15 ") == ["15", "gate", "115", "person", "0.50"]
    assert "and 12 more" in page


async def test_the_pictures_of_a_shadows_samples_are_written(control, say, tmp_path) -> None:
    control.routes["person"] = Route("person", stable="1", shadow="2")
    control.samples = [sample(index, jpeg=picture("JPEG")) for index in (1, 2)]
    async with asking(control, say) as ask:
        said = await ask("shadow", "person", "-o", tmp_path / "seen")
    assert said.code == 0
    assert sorted(one.name for one in (tmp_path / "seen").iterdir()) == ["00001-gate-101.png", "00002-gate-102.png"]
    with Image.open(tmp_path / "seen/00001-gate-101.png") as image:
        assert image.width == 2 * 384 + 4


async def test_who_may_not_see_pictures_still_gets_the_totals(control, say, tmp_path, monkeypatch) -> None:
    (tmp_path / "tokens.toml").write_text(TOKENS)
    monkeypatch.setenv("VEDETTE_TOKEN", "desk-secret")
    control.routes["person"] = Route("person", stable="1", shadow="2")
    async with asking(control, say, tmp_path / "tokens.toml") as ask:
        said = await ask("shadow", "person")
        assert (said.code, "frames compared" in said.out) == (0, True)
        assert "the frames themselves are not shown: token 'desk' may not administer all channels" in said.err
        assert (await ask("shadow", "person", "-o", tmp_path / "seen")).code == 1
        assert (await ask("promote", "person")).code == 1


async def test_frames_are_written_a_folder_for_each_channel_and_more_behind_them(control, say, tmp_path) -> None:
    async with asking(control, say) as ask:
        said = await ask("frames", "person", "--count", "6", "--interval", "0.1", "-o", tmp_path / "new/frames")
        assert said.out == f"6 frames of 2 channels in {tmp_path / 'new/frames'}\n"
        said = await ask("frames", "person", "--count", "2", "--channel", "yard", "-o", tmp_path / "new/frames")
        assert said.out == f"2 frames of 1 channel in {tmp_path / 'new/frames'}\n"
    yard = sorted(one.name for one in (tmp_path / "new/frames/yard").iterdir())
    gate = sorted(one.name for one in (tmp_path / "new/frames/gate").iterdir())
    assert len(yard) + len(gate) == 8
    assert yard == [f"{number:06d}.png" for number in range(1, len(yard) + 1)]
    with Image.open(tmp_path / "new/frames/gate/000001.png") as image:
        assert image.size == (96, 64)


async def test_frames_that_cannot_be_written_end_the_command(control, say, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    async with asking(control, say) as ask:
        said = await ask("frames", "person", "-o", tmp_path / "file/frames")
    assert said.code == 1
    assert "file/frames" in said.err


def test_a_channels_name_leads_into_no_other_folder(tmp_path: Path) -> None:
    assert [folder_name(name) for name in ("gate-1", "..", ".", "a/b", "")] == ["gate-1", "_..", "_.", "a_b", "_"]
    folder = FrameFolder(tmp_path)
    folder.write(SampledFrame("..", 1, b"png"))
    assert (tmp_path / "_../000001.png").read_bytes() == b"png"


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("100%", 1.0), ("0", 0.0), ("12.5 %", None)])
def test_a_share_is_a_percentage_or_a_fraction(text: str, share: float | None) -> None:
    if share is None:
        with pytest.raises(OptionsError, match="--share"):
            read_share(text)
    else:
        assert read_share(text) == pytest.approx(share)


def test_what_only_one_version_saw_is_drawn_in_colour_on_its_side() -> None:
    grey = (90, 90, 90)

    def colours(image: Image.Image, left: int) -> int:
        part = np.asarray(image)[30:, left : left + 384].astype(int)
        return int((part.max(2) - part.min(2) > 60).sum())

    both = ShadowFinding("car", 0.9, (0.1, 0.1, 0.4, 0.4), unmatched=False)  # type: ignore[arg-type]
    lost = ShadowFinding("person", 0.5, (0.5, 0.5, 0.8, 0.8), unmatched=True)  # type: ignore[arg-type]
    shown = ShadowSample(1, "gate", 5, 0, (both, lost), (both,), picture("JPEG", shade=grey[0]))
    image = draw_sample(shown, "person 1", "person 2")
    assert colours(image, 0) > 100
    assert colours(image, 388) == 0


def test_a_classifiers_classes_are_written_below_its_picture() -> None:
    def sheet(label: str) -> Image.Image:
        seen = (ShadowFinding(label, 0.5, None, unmatched=True),)
        return draw_sample(ShadowSample(1, "gate", 5, 0, seen, (), picture("JPEG")), "1", "2")

    cat, nothing = np.asarray(sheet("cat")), np.asarray(sheet(" "))
    below = cat.shape[0] - 20
    assert (cat[below:] != nothing[below:]).any()
    assert (cat[:below] == nothing[:below]).all()


def test_a_server_is_steered_from_an_install_without_any_extra() -> None:
    code = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"onnx", "onnxruntime", "cv2", "structlog", "prometheus_client", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from vedette_client.cli.main import run
assert run(["engine", "--help"]) == 0
for args in (["list"], ["load", "person"], ["frames", "person", "-o", "nowhere"]):
    assert run(["engine", *args, "--server", "127.0.0.1:1"]) == 1
"""
    said = support_cli.finish(support_cli.start(code=code))
    assert said.code == 0, said.err
    assert said.err.count("Failed to connect") == 3
