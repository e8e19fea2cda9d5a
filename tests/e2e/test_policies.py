"""What a channel may ask for, and gets: policies under load, limits, filters, and changes in mid-stream."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from support_streams import GREY_FORMAT, encoded, grey, outcome
from support_wire import Refused, Wire, grey_config, grey_packet
from vedette.v1 import stream_pb2
from vedette_client import Client, Policy, SkipReason, StreamLimits
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from support_serving import ServerProcess
    from vedette_client import Verdict
    from vedette_client.account import Account

# Freshness, memory and graces are judged.
pytestmark = pytest.mark.alone

LIVE, EVERY = stream_pb2.DELIVERY_POLICY_LIVE, stream_pb2.DELIVERY_POLICY_EVERY_FRAME
SUPERSEDED, RATE_LIMIT, STALE = SkipReason.SUPERSEDED, SkipReason.RATE_LIMIT, SkipReason.STALE


async def analyse(server: ServerProcess, source: Any, channel: str, **wishes: Any) -> tuple[list[Verdict], Account]:
    """Stream a source; return its verdicts and the account, which client and server agree on."""
    async with Client(server.address) as client:
        analysis = await client.start(source, channel, **wishes)
        verdicts = [verdict async for verdict in analysis]
        account = await analysis.stream.finish()
        await analysis.close()
    assert account.packets == account.analysed + account.skipped.total()
    return verdicts, account


# -- live and every frame ------------------------------------------------------------------------------


async def test_a_live_camera_beyond_what_the_engine_bears_stays_fresh(quick_server: ServerProcess) -> None:
    """The engine takes a part of these: the newest wins, the rest is told, and ages do not grow."""
    values = [number % 250 for number in range(225)]
    verdicts, account = await analyse(quick_server, grey(values, fps=75), "fresh", engines=["slow"])

    assert account.packets == 225
    assert set(account.skipped) == {SUPERSEDED}
    assert 10 <= account.analysed < 200
    ages = [v.times.total_us / 1e6 for v in verdicts if v.analysed and v.times]
    half = len(ages) // 2
    assert max(ages) < 2.0
    assert statistics.median(ages[half:]) < 2 * statistics.median(ages[:half]) + 0.2
    # Each is the verdict of its own picture, and they come in the order of presentation.
    assert [v.pts for v in verdicts] == sorted(v.pts or 0 for v in verdicts)
    assert all(v.detections[0].score == pytest.approx(values[v.sequence] / 256) for v in verdicts if v.detections)


async def test_a_recorded_stream_loses_nothing_and_is_slowed(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "slowed") as camera:
        await camera.open(grey_config("slowed", "slow"))
        assert camera.flow is not None
        granted = camera.flow.send_through_sequence
        assert granted < 60
        sent = 0
        while sent < 60:
            while sent <= camera.flow.send_through_sequence and sent < 60:
                await camera.say(packets=[grey_packet(sent)])
                sent += 1
            if sent < 60:
                await camera.hear()
        assert (await camera.finish()).analysed == 60


async def test_a_file_starves_no_live_cameras_and_they_do_not_starve_it(quick_server: ServerProcess) -> None:
    async def camera(number: int) -> Account:
        source = grey([10 + number] * 60, fps=20)
        return (await analyse(quick_server, source, f"beside-{number}", engines=["slow"]))[1]

    file = asyncio.create_task(
        analyse(quick_server, grey([99] * 400), "file", engines=["slow"], policy=Policy.EVERY_FRAME)
    )
    cameras = await asyncio.gather(*(camera(number) for number in range(3)))
    done_meanwhile = not file.done()
    file.cancel()
    shares = [account.analysed for account in cameras]
    assert min(shares) >= 5
    assert max(shares) <= 1.5 * min(shares) + 3
    assert done_meanwhile


async def test_priorities_share_the_engine(narrow_server: ServerProcess) -> None:
    async def camera(name: str, priority: int) -> int:
        source = grey([50] * 80, fps=40)
        return (await analyse(narrow_server, source, name, engines=["slow"], priority=priority))[1].analysed

    counts = await asyncio.gather(*(camera(f"weight-{n}", 40 if n < 3 else 10) for n in range(6)))
    assert sum(counts[:3]) > 2 * sum(counts[3:])
    assert min(counts) >= 2


# -- limits --------------------------------------------------------------------------------------------


async def test_max_fps_takes_an_even_share(quick_server: ServerProcess) -> None:
    verdicts, account = await analyse(
        quick_server, grey([7] * 60), "rated", engines=["gauge"], policy=Policy.EVERY_FRAME, max_fps=20
    )
    # 60 frames that are 0.01 s apart by their own clock.
    assert account.analysed + account.skipped[RATE_LIMIT] == 60
    assert [v.sequence for v in verdicts if v.analysed] == list(range(0, 60, 5))


async def test_what_is_older_than_max_age_is_skipped(quick_server: ServerProcess) -> None:
    _, account = await analyse(
        quick_server, grey([7] * 100, fps=50), "aged", engines=["slow"], max_age_s=0.001, priority=1
    )
    assert account.skipped[STALE] > 0
    assert set(account.skipped) <= {STALE, SUPERSEDED}


# -- filters -------------------------------------------------------------------------------------------


async def test_filters_hold_from_the_start(quick_server: ServerProcess) -> None:
    async def found(channel: str, **wishes: Any) -> int:
        wanted = {"engines": ["gauge"], "policy": Policy.EVERY_FRAME}
        verdicts, _ = await analyse(quick_server, grey([128]), channel, **wanted, **wishes)
        return len(verdicts[0].detections)

    corner = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.2))
    middle = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    assert await found("plain") == 1
    assert await found("scored", min_score=0.6) == 0
    assert await found("classed", classes=["grey"]) == 1
    assert await found("cornered", regions=[corner]) == 0
    assert await found("centred", regions=[corner, middle]) == 1


async def test_classes_are_those_of_all_engines(quick_server: ServerProcess) -> None:
    verdicts, _ = await analyse(
        quick_server,
        grey([128]),
        "mixed",
        engines=["gauge", "blobs"],
        policy=Policy.EVERY_FRAME,
        classes=["red"],
    )
    assert [len(result.detections) for result in verdicts[0].results] == [0, 0]


async def test_two_engines_on_one_channel_give_one_verdict(quick_server: ServerProcess) -> None:
    source = encoded("h264-b")
    verdicts, account = await analyse(
        quick_server, source, "two", engines=["person", "gauge"], policy=Policy.EVERY_FRAME
    )
    assert account.analysed == len(verdicts) == 30
    assert {tuple(result.engine for result in v.results) for v in verdicts} == {("person", "gauge")}
    assert all(v.results[1].detections for v in verdicts)


async def test_channels_with_one_and_with_two_engines_share_both(narrow_server: ServerProcess) -> None:
    """A channel that needs two slots at once must not wait for ever behind those that need one."""

    async def camera(name: str, engines: list[str]) -> int:
        return (await analyse(narrow_server, grey([60] * 120, fps=40), name, engines=engines))[1].analysed

    both, *singles = await asyncio.gather(
        camera("both", ["slow", "slower"]),
        *(camera(f"slow-{n}", ["slow"]) for n in range(3)),
        *(camera(f"slower-{n}", ["slower"]) for n in range(3)),
    )
    assert both >= 0.5 * min(singles), (both, singles)


# -- how things are said -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Policy.LIVE, Policy.EVERY_FRAME])
async def test_skips_that_are_not_wanted_are_only_counted(quick_server: ServerProcess, policy: Policy) -> None:
    """Also under credits: a message of flow that tells what is settled must not lift them."""
    verdicts, account = await analyse(
        quick_server,
        grey([7] * 200, fps=100),
        f"omit-{policy}",
        engines=["gauge"],
        policy=policy,
        max_fps=10,
        omit_skips=True,
    )
    assert account.packets == 200
    assert all(v.analysed for v in verdicts)
    assert account.analysed == len(verdicts)
    assert account.skipped[RATE_LIMIT] >= 150


async def test_packets_to_decode_only_are_not_judged(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "only") as camera:
        resume = stream_pb2.Resume(session_token="forgotten", next_verdict_index=7, next_sequence=9)
        accepted = await camera.open(grey_config("only", resume=resume))
        assert (accepted.state_restored, accepted.keyframe_needed) == (False, True)
        assert (accepted.next_sequence, accepted.next_verdict_index) == (9, 7)
        packets = [grey_packet(number, decode_only=number < 8) for number in range(5, 12)]
        await camera.say(packets=packets)
        account = await camera.finish()
    assert [(v.verdict_index, v.sequence) for v in camera.verdicts] == [(7, 8), (8, 9), (9, 10), (10, 11)]
    assert (account.packets_received, account.analysed, account.decode_only) == (4, 4, 3)


async def test_fragments_are_joined(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "parts") as camera:
        await camera.open(grey_config("parts"))
        whole = grey_packet(0, 77)
        pieces = [whole.data[:1000], whole.data[1000:1001], whole.data[1001:]]
        for index, piece in enumerate(pieces):
            await camera.say(packets=[grey_packet(0, 77, data=piece, fragment_index=index, last_fragment=2)])
        await camera.say(packets=[grey_packet(1, 78)])
        account = await camera.finish()
    assert account.bytes_received == 2 * len(whole.data)
    scores = [v.analysis.results[0].detections[0].score for v in camera.verdicts]
    assert scores == pytest.approx([77 / 256, 78 / 256])


async def test_large_packets_travel_in_fragments_by_themselves(quick_server: ServerProcess) -> None:
    """Raw pictures of 3 MB through messages of at most 8: the client bundles and cuts as it must."""
    source = open_source("synthetic:blobs?codec=raw&width=1280&height=720&seconds=1&fps=6", pace=False)
    limits = StreamLimits(keep_bytes=64 << 20)
    async with Client(quick_server.address, limits=limits) as client:
        wanted = client.analyze(source, "large", engines=["blobs"], policy=Policy.EVERY_FRAME)
        assert [v.analysed async for v in wanted] == [True] * 6


async def test_b_frames_come_in_the_order_of_presentation(quick_server: ServerProcess) -> None:
    verdicts, _ = await analyse(quick_server, encoded("h264-b"), "order", engines=["gauge"], policy=Policy.EVERY_FRAME)
    assert [v.pts for v in verdicts] == sorted(v.pts or 0 for v in verdicts)
    assert [v.sequence for v in verdicts] != sorted(v.sequence for v in verdicts)
    assert [v.index for v in verdicts] == list(range(30))
    assert all(v.times and v.times.execute_us > 0 for v in verdicts)


# -- changes in mid-stream -----------------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "max_fps": {"max_fps": 5.0},
    "max_age_s": {"max_age_s": 9.0},
    "min_score": {"min_score": 0.9},
    "iou": {"iou": 0.2},
    "classes": {"classes": ["grey"]},
    "regions": {"regions": [((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))]},
    "priority": {"priority": 99},
    "omit_skips": {"omit_skips": True},
    "max_detections": {"max_detections": 7},
    "policy": {"policy": Policy.LIVE},
}


@pytest.mark.parametrize("field", CHANGES)
async def test_every_setting_can_change_and_change_back(quick_server: ServerProcess, field: str) -> None:
    async with Client(quick_server.address) as client:
        stream = await client.open(f"change-{field}", GREY_FORMAT, engines=["gauge"], policy=Policy.EVERY_FRAME)
        assert stream.accepted is not None
        before = stream.accepted.config.__deepcopy__()
        changed = (await stream.update(**CHANGES[field])).config
        assert changed != before
        back = dict.fromkeys(CHANGES[field])
        back |= {"classes": (), "regions": (), "omit_skips": False, "policy": Policy.EVERY_FRAME}
        restored = (await stream.update(**{field: back[field]})).config
        assert restored == before
        await stream.finish()


async def test_an_update_holds_from_the_packet_that_it_names(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "from") as camera:
        await camera.open(grey_config("from"))
        await camera.say(packets=[grey_packet(n, 128) for n in range(4)])
        await camera.hear_verdicts(4)
        asked = stream_pb2.UpdateConfig(config=stream_pb2.StreamConfig(min_score=0.9))
        asked.update_mask.paths.append("min_score")
        await camera.say(update_config=asked, packets=[grey_packet(n, 128) for n in range(4, 8)])
        await camera.finish()
    assert [updated.from_sequence for updated in camera.updates] == [4]
    assert camera.updates[0].config.min_score == pytest.approx(0.9)
    assert [len(v.analysis.results[0].detections) for v in camera.verdicts] == [1] * 4 + [0] * 4


def switch(policy: stream_pb2.DeliveryPolicy.ValueType) -> stream_pb2.UpdateConfig:
    asked = stream_pb2.UpdateConfig(config=stream_pb2.StreamConfig(policy=policy))
    asked.update_mask.paths.append("policy")
    return asked


async def test_packets_on_their_way_survive_the_switch_to_every_frame(quick_server: ServerProcess) -> None:
    """The client has sent them before it could know of credits: more than a window, and bytes from before."""
    async with Wire(quick_server.address, "stricter") as camera:
        await camera.open(grey_config("stricter", policy=LIVE))
        assert camera.flow is not None
        assert not camera.flow.HasField("send_through_sequence")
        await camera.say(packets=[grey_packet(n) for n in range(10)])
        await camera.say(update_config=switch(EVERY))
        sent = 10
        while sent < 70:  # blind: a window has 32
            await camera.say(packets=[grey_packet(n) for n in range(sent, sent + 10)])
            sent += 10
        await camera.hear_verdicts(70)
        await camera.say(ack_verdicts=stream_pb2.AckVerdicts(through_index=69))
        while sent < 130:
            while sent <= camera.flow.send_through_sequence and sent < 130:
                await camera.say(packets=[grey_packet(sent)])
                sent += 1
            if sent < 130:
                await camera.hear()
        account = await camera.finish()
    reasons = Counter(v.skip.reason for v in camera.verdicts if v.HasField("skip"))
    assert account.packets_received == 130
    # Live ones may be superseded; of those after the switch none is lost, unless they overran the inbox.
    assert set(reasons) <= {SUPERSEDED, SkipReason.OVERLOAD}
    assert all(v.HasField("analysis") for v in camera.verdicts if v.sequence >= 70)


async def test_credits_are_enforced_again_after_the_switch_was_heard(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "heard") as camera:
        await camera.open(grey_config("heard", policy=LIVE))
        await camera.say(packets=[grey_packet(0)], update_config=switch(EVERY))
        await camera.hear_verdicts(1)
        await camera.say(packets=[grey_packet(1)])
        await camera.hear_verdicts(2)
        await camera.say(
            ack_verdicts=stream_pb2.AckVerdicts(through_index=1), packets=[grey_packet(n) for n in range(2, 300)]
        )
        with pytest.raises(Refused) as caught:
            await camera.hear_all()
        assert caught.value.reasons == ["CREDIT_EXCEEDED"]


async def test_the_switch_to_live_lifts_the_credits(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "looser") as camera:
        await camera.open(grey_config("looser"))
        assert camera.flow is not None
        assert camera.flow.HasField("send_through_sequence")
        await camera.say(update_config=switch(LIVE))
        while camera.flow.HasField("send_through_sequence"):
            await camera.hear()
        await camera.say(packets=[grey_packet(n) for n in range(200)])
        account = await camera.finish()
        assert account.packets_received == 200


async def test_the_bundled_client_follows_switches_there_and_back(quick_server: ServerProcess) -> None:
    async with Client(quick_server.address) as client:
        stream = await client.open("back-and-forth", GREY_FORMAT, engines=["gauge"], policy=Policy.LIVE)
        packets = list(grey([number % 200 for number in range(400)]).packets())
        verdicts = []

        async def take() -> None:
            verdicts.extend([verdict async for verdict in stream])

        taking = asyncio.create_task(take())
        for index, packet in enumerate(packets):
            if index % 100 == 50:
                await stream.update(policy=Policy.EVERY_FRAME if index % 200 == 50 else Policy.LIVE)
            await stream.send(packet, wait=True)
        account = await stream.finish()
        await taking
    assert account.packets == 400
    assert len(outcome(verdicts)) == 400
    assert set(account.skipped) <= {SUPERSEDED, SkipReason.OVERLOAD}
