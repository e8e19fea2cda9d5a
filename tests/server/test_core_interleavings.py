"""The pure core under any interleaving of what packets, decoders, engines and connections can do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support_core import EVERY_FRAME, LIMITS, LIVE, Core, CoreChannel
from vedette_server.data.outcome import SkipReason

CHANNELS = st.integers(0, 3)


class CoreMachine(RuleBasedStateMachine):
    @initialize(
        weights=st.lists(st.integers(1, 40), min_size=4, max_size=4),
        replayed=st.lists(st.integers(0, 4), min_size=4, max_size=4),
        max_batch=st.integers(1, 3),
    )
    def start(self, weights: list[int], replayed: list[int], max_batch: int) -> None:
        policies = [LIVE, EVERY_FRAME, LIVE, EVERY_FRAME]
        channels = [CoreChannel(f"camera-{n}", policy, weights[n], replayed[n]) for n, policy in enumerate(policies)]
        self.core = Core(channels, max_batch)

    @rule(n=CHANNELS, kinds=st.sampled_from(["K", "PBB", "PB", "B", "KBB", "PPPP", "KPBPB"]), size=st.integers(1, 200))
    def packets_arrive(self, n: int, kinds: str, size: int) -> None:
        channel = self.core.channels[n]
        for kind in kinds:
            if channel.connected and not channel.ended and channel.may_send(size):
                channel.arrive(kind, size, self.core.now)

    @rule(n=CHANNELS)
    def a_decoder_works(self, n: int) -> None:
        self.core.decode(self.core.channels[n])

    @rule(count=st.integers(1, 5))
    def all_decoders_work(self, count: int) -> None:
        for channel in self.core.channels * count:
            self.core.decode(channel)

    @rule(count=st.integers(1, 5))
    def frames_are_picked(self, count: int) -> None:
        for _ in range(count):
            self.core.pick()

    @rule(works=st.booleans())
    def an_engine_runs(self, works: bool) -> None:
        self.core.run(works=works)

    @rule(tenths=st.sampled_from([1, 1, 1, 2, 5, 12]))
    def time_passes(self, tenths: int) -> None:
        self.core.now += tenths / 10

    @rule(kinds=st.sampled_from(["K", "PBB", "B"]))
    def packets_arrive_everywhere(self, kinds: str) -> None:
        for n in range(len(self.core.channels)):
            self.packets_arrive(n, kinds, 20)

    @rule(n=CHANNELS, limit=st.integers(1, 20), arriving=st.integers(0, 20))
    def verdicts_are_sent(self, n: int, limit: int, arriving: int) -> None:
        self.core.channels[n].send(limit)
        self.core.channels[n].deliver(arriving)

    @rule(n=CHANNELS)
    def a_client_acknowledges(self, n: int) -> None:
        self.core.channels[n].acknowledge()

    @rule(n=CHANNELS)
    def a_connection_is_lost(self, n: int) -> None:
        self.core.channels[n].disconnect()

    @rule(n=CHANNELS)
    def a_client_comes_back(self, n: int) -> None:
        if not self.core.channels[n].connected:
            self.core.channels[n].resume()

    @rule(n=CHANNELS, chance=st.integers(0, 9), reason=st.sampled_from([SkipReason.SESSION_LOST, SkipReason.DRAINING]))
    def a_channel_ends(self, n: int, chance: int, reason: SkipReason) -> None:
        if chance == 0:  # seldom, or there would be little else to see
            self.core.end(self.core.channels[n], reason)

    @invariant()
    def accounts_balance(self) -> None:
        for channel in self.core.channels:
            total = channel.account.snapshot()
            assert total.packets_received == total.packets_pending + total.analysed + total.skipped_total
            assert total.packets_received + total.decode_only == channel.next_sequence
            assert total.verdicts == channel.ledger.next_index == total.analysed + total.skipped_total
            assert channel.account.closed or not channel.ended or channel.in_flight

    @invariant()
    def nothing_grows_without_a_bound(self) -> None:
        for channel in self.core.channels:
            assert channel.inbox.bytes <= 3 * LIMITS.max_bytes
            if channel.policy is EVERY_FRAME:
                assert len(channel.inbox) <= channel.credits.packets + channel.replayed

    @invariant()
    def a_sender_whose_packets_were_taken_may_send_the_largest_packet(self) -> None:
        for channel in self.core.channels:
            assert len(channel.inbox) or channel.ended or channel.may_send(200)

    @invariant()
    def clients_have_dense_indices_in_presentation_order(self) -> None:
        for channel in self.core.channels:
            assert [index for index, _ in channel.client] == list(range(len(channel.client)))
            assert [verdict[0] for _, verdict in channel.client] == list(range(len(channel.client)))

    @invariant()
    def nobody_is_passed_over_beyond_the_bound(self) -> None:
        for channel in self.core.channels:
            assert self.core.wait_is_bounded(channel)

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        for channel in self.core.channels:
            self.core.finish_stream(channel)
        while len(self.core.queue):
            self.core.pick()
        self.core.finish(self.core.batcher.drain(), works=True)
        for channel in self.core.channels:
            self.check_end(channel)

    @staticmethod
    def check_end(channel: CoreChannel) -> None:
        """Every packet has one verdict, and the client gets them all once, in order."""
        channel.disconnect()
        channel.resume()
        channel.send(10_000)
        channel.deliver(10_000)
        assert channel.account.closed
        assert channel.timeline.held == channel.timeline.open_places == 0
        verdicts = [verdict for _, verdict in channel.client]
        assert [sequence for _, sequence, _ in verdicts] == channel.places
        assert sorted(channel.places) == list(
            range(min(channel.replayed, channel.next_sequence), channel.next_sequence)
        )
        reasons = {reason for _, _, reason in verdicts}
        if channel.policy is EVERY_FRAME:
            assert not reasons & {SkipReason.OVERLOAD, SkipReason.SUPERSEDED, SkipReason.LOST_REFERENCE}
        analysed = {sequence for _, sequence, reason in verdicts if reason is None}
        lost = {sequence for _, sequence, reason in verdicts if reason is SkipReason.OVERLOAD}
        broken = False
        for sequence in range(channel.replayed, channel.next_sequence):
            kind = channel.kinds[sequence]
            if kind == "K":
                broken = sequence in lost
            elif sequence in lost:
                broken = broken or kind == "P"
            assert not (broken and sequence in analysed), f"packet {sequence} was analysed without its reference"


CoreMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTheCoreUnderAnyInterleaving = CoreMachine.TestCase
