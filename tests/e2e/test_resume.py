"""A stream that is cut ends as the uncut one, wherever it is cut and whatever the server still knows."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from support_fakeserver import TcpProxy
from support_middle import Cut, Middle
from support_serving import ServerProcess
from support_streams import Outcome, encoded, grey, outcome
from vedette_client import Client, Policy, ReconnectOptions, StreamLimits
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_client import Verdict

# 36 frames in three groups, with B frames.
CLIP = "synthetic:blobs?bframes=2&gop=12&seconds=2.4&width=128&height=96&count=2&fps=15"
RECONNECT = ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=20.0)
LIMITS = StreamLimits(bundle_packets=1, ack_every=4)


async def stream(address: str, channel: str, recipe: str = "") -> list[Verdict]:
    """Send the clip, or an encoded stream; closing accounts are compared on the way."""
    source = encoded(recipe) if recipe else open_source(CLIP, pace=False)
    engine = "gauge" if recipe else "blobs"
    async with Client(address, reconnect=RECONNECT, limits=LIMITS) as client:
        return [v async for v in client.analyze(source, channel, engines=[engine], policy=Policy.EVERY_FRAME)]


async def cut_once(targets: Sequence[ServerProcess], cut: Cut, whole: Outcome, recipe: str = "") -> bool:
    """Cut; the next connection goes to the last of the targets. Tell whether the cut was met."""
    async with Middle(targets[0].address) as middle:

        async def turn() -> None:
            middle.target = targets[-1].address

        middle.cuts = [Cut(cut.direction, cut.after, turn)]
        verdicts = await stream(middle.address, f"cut-{recipe}-{cut.direction}-{len(targets)}-{cut.after}", recipe)
        assert outcome(verdicts) == whole, f"cut {cut.direction} after {cut.after}"
        return middle.met == 1


async def cut_everywhere(targets: Sequence[ServerProcess], direction: str, recipe: str = "", step: int = 1) -> int:
    """Cut after every message in turn, until the stream has no more; return the number of cuts."""
    whole = outcome(await stream(targets[0].address, f"whole-{recipe}-{direction}-{len(targets)}", recipe))
    assert all(reason is None for _, reason, _ in whole.values())
    after = 0
    while await cut_once(targets, Cut(direction, after), whole, recipe):
        after += step
    return after


@pytest.mark.timeout(300)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_cut_at_any_message_changes_no_verdict(quick_server: ServerProcess, direction: str) -> None:
    # Up: the configuration, 36 packets and more; down: verdicts travel in bundles.
    assert await cut_everywhere([quick_server], direction) >= (37 if direction == "up" else 5)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_server_that_knows_nothing_changes_no_verdict(
    quick_server: ServerProcess, other_server: ServerProcess, direction: str
) -> None:
    assert await cut_everywhere([quick_server, other_server], direction) >= (37 if direction == "up" else 5)


@pytest.mark.load
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "recipe", ["h264-b", "h264-open", "hevc-open", "hevc-b", "av1-b", "vp9", "mpeg4-b", "h264-mp4"]
)
async def test_every_codec_survives_a_cut_at_any_message(
    quick_server: ServerProcess, other_server: ServerProcess, recipe: str
) -> None:
    for targets in ([quick_server], [quick_server, other_server]):
        for direction in ("up", "down"):
            assert await cut_everywhere(targets, direction, recipe) > 4


@pytest.mark.timeout(300)
@pytest.mark.parametrize("recipe", ["h264-open", "hevc-open", "mpeg4-b", "h264-mp4"])
async def test_open_groups_and_other_codecs_survive_cuts(
    quick_server: ServerProcess, other_server: ServerProcess, recipe: str
) -> None:
    """Every seventh message here; all of them, with more codecs, in the tier `load`."""
    for targets in ([quick_server], [quick_server, other_server]):
        assert await cut_everywhere(targets, "up", recipe, step=7) > 14


async def test_many_cuts_in_one_stream_change_no_verdict(
    quick_server: ServerProcess, other_server: ServerProcess
) -> None:
    whole = outcome(await stream(quick_server.address, "whole"))
    dice = random.Random(2)
    met = 0
    for run in range(8):
        async with Middle(quick_server.address) as middle:

            async def turn(middle: Middle = middle) -> None:
                middle.target = dice.choice((quick_server, other_server)).address

            middle.cuts = [
                Cut(dice.choice(("up", "down")), dice.randrange(1, 12), turn) for _ in range(dice.randrange(2, 8))
            ]
            assert outcome(await stream(middle.address, f"many-{run}")) == whole
            met += middle.met
    assert met >= 16


async def test_a_wire_that_is_cut_at_any_moment_changes_no_verdict(quick_server: ServerProcess) -> None:
    """Not at a message's boundary, and without a word: whatever TCP carried so far."""
    whole = outcome(await stream(quick_server.address, "whole-wire"))
    dice = random.Random(3)
    async with TcpProxy(quick_server.address) as wire:

        async def cut_now_and_then() -> None:
            while True:
                await asyncio.sleep(dice.uniform(0.02, 0.25))
                wire.cut()

        cutting = asyncio.create_task(cut_now_and_then())
        try:
            for run in range(6):
                assert outcome(await stream(wire.address, f"wire-{run}")) == whole
        finally:
            cutting.cancel()
        assert wire.connections > 6


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.load, id="every"), pytest.param(11, id="some")])
async def test_a_server_that_is_restarted_changes_no_verdict(gauges: Path, step: int) -> None:
    """Killed and started again on the same port, by the clock of messages; every eleventh by default."""
    flags = ("--engine", "blobs", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0")
    with ServerProcess(*flags) as first:
        port = first.port
        whole = outcome(await stream(first.address, "whole-restart"))
    server = ServerProcess(*flags, port=port)
    try:
        for direction in ("up", "down"):
            after, met = 1, True
            while met:
                async with Middle(server.address) as middle:

                    async def restart() -> None:
                        nonlocal server
                        server.kill()
                        server = await asyncio.to_thread(ServerProcess, *flags, port=port)

                    middle.cuts = [Cut(direction, after, restart)]
                    assert outcome(await stream(middle.address, f"restart-{direction}-{after}")) == whole
                    met = middle.met == 1
                    after += step
    finally:
        server.kill()


async def test_a_stream_that_is_cut_after_its_last_packet_still_closes(quick_server: ServerProcess) -> None:
    """The half-close itself may be lost, or the answer to it."""
    for after in range(8):
        async with Middle(quick_server.address) as middle:
            middle.cuts = [Cut("down", after)]
            async with Client(middle.address, reconnect=RECONNECT) as client:
                source = grey([10, 20, 30])
                verdicts = [
                    v
                    async for v in client.analyze(source, f"last-{after}", engines=["gauge"], policy=Policy.EVERY_FRAME)
                ]
            assert [v.sequence for v in verdicts] == [0, 1, 2]


async def test_a_pause_at_a_cut_does_not_end_a_stream(quick_server: ServerProcess) -> None:
    """A camera that has nothing to send for a moment, and whose connection breaks just then."""
    async with Middle(quick_server.address) as middle, Client(middle.address, reconnect=RECONNECT) as client:
        middle.cuts = [Cut("up", 4), Cut("up", 3)]
        source = grey([])
        async with await client.open("pause", source.video, engines=["gauge"], policy=Policy.EVERY_FRAME) as stream:
            sent = 0
            for packet in grey(range(40)).packets():
                await stream.send(packet, wait=True)
                sent += 1
                if sent % 5 == 0:
                    await asyncio.sleep(0.06)
            account = await stream.finish()
            assert account.analysed == sent == 40
        assert middle.met == 2
