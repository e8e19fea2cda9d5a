"""The whole server, pictures decoded and letterboxed on a GPU: a simulated one, and a fake of PyNvVideoCodec."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from support_gpu_serving import Gpus, serving
from support_nvdec import FakeNvc
from support_streams import encoded, outcome, publish_gauge
from vedette_client import Client, Policy, ReconnectOptions, SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_gpu_serving import Serving
    from support_streams import Packets
    from vedette_client import Verdict


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_gauge(tmp_path)
    return tmp_path


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().out


async def analysed(server: Serving, source: Packets) -> list[Verdict]:
    async with Client(server.address, reconnect=ReconnectOptions(give_up_s=20.0)) as client:
        analysis = await client.start(source, "a", engines=["gauge"], policy=Policy.EVERY_FRAME)
        return [verdict async for verdict in analysis]


@pytest.mark.parametrize("name", ["h264", "h264-b", "hevc-mp4"])
async def test_pictures_stay_on_the_gpu_from_decoder_to_engine(
    root: Path, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with serving(root, None, printed) as server:
        wanted = await analysed(server, encoded(name))
    gpus = Gpus(1)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", FakeNvc(gpus.devices))
    async with serving(root, gpus, printed, preprocess="device") as server:
        verdicts = await analysed(server, encoded(name))
        figures = await server.metrics()
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="device"}'] == len(wanted)
    assert [verdict.sequence for verdict in verdicts] == [verdict.sequence for verdict in wanted]
    codec = name.partition("-")[0].upper()
    assert f'vedette_decoders{{codec="{codec}",decoder="nvdec:0"}}' in figures
    for verdict, expected in zip(verdicts, wanted, strict=True):
        got, there = ([detection.score for detection in each.detections] for each in (verdict, expected))
        assert got == pytest.approx(there, abs=0.01)


async def test_a_decoder_that_fails_in_mid_stream_is_told_as_lost_references_and_the_cpu_goes_on(
    root: Path, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus(1)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", FakeNvc(gpus.devices, fail_after=lambda _: 5))
    async with serving(root, gpus, printed, preprocess="device") as server:
        verdicts = await analysed(server, encoded("h264"))
        figures = await server.metrics()
    told = outcome(verdicts)
    assert len(told) == 30
    skipped = {verdict.sequence: verdict.reason for verdict in verdicts if not verdict.analysed}
    assert skipped == dict.fromkeys(range(5, 12), SkipReason.LOST_REFERENCE)
    assert figures['vedette_decoder_fallbacks_total{cause="failed",codec="H264"}'] == 1
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="device"}'] == 5
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="host"}'] == 18


async def test_a_server_without_the_library_decodes_on_the_cpu(
    root: Path, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    async with serving(root, Gpus(1), printed, preprocess="device") as server:
        verdicts = await analysed(server, encoded("h264"))
        figures = await server.metrics()
    assert len(verdicts) == 30
    assert figures['vedette_frames_fed_total{engine="gauge",version="1",way="host"}'] == 30
