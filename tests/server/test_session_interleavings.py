"""A session under any interleaving of its client, its connections, the workers, the engine, and whoever ends it."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support_session import EVERY_FRAME, LIVE, Rig, ToyEngine, ToyWatcher
from vedette_server.data.config import EngineRef
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import UnavailableError

KINDS = st.sampled_from(["K", "PBB", "PB", "P", "KPP"])


class SessionMachine(RuleBasedStateMachine):
    """The client obeys its credits, acknowledges, resumes, and keeps what it may have to send again."""

    @initialize(policy=st.sampled_from([LIVE, EVERY_FRAME]), lost=st.sampled_from([0, 0, 3]), watched=st.booleans())
    def start(self, policy: Any, lost: int, watched: bool) -> None:
        watcher = ToyWatcher(fails_at=range(0, 1000, 5)) if watched else None
        self.rig = Rig(policy=policy, first_verdict_index=lost, rejoin_through=lost or None, watcher=watcher)
        self.finished = False
        self.ended = False
        self.broken = False
        self.switched = False
        self.version = 1
        self.credit: int | None = None
        self.connect()

    @property
    def connected(self) -> bool:
        return self.rig.listener is not None

    def connect(self) -> None:
        rig = self.rig
        attachment = rig.connect()
        self.credit = attachment.flow.send_through_sequence if attachment.flow else None
        if rig.session.epoch == 1 or self.ended:
            return
        start = attachment.next_sequence
        if attachment.keyframe_needed:
            told = {verdict.packet.sequence for _, verdict in rig.told}
            first = next((n for n in range(len(rig.sent)) if self.base + n not in told), len(rig.sent))
            keys = [n for n, kind in enumerate(rig.sent) if kind == "K" and n <= first]
            start = self.base + (keys[-1] if keys else 0)
        self.again = list(range(start, self.base + len(rig.sent)))
        for sequence in self.again:
            rig.give(sequence, rig.sent[sequence - self.base])
        if self.finished:
            rig.session.finish()

    @property
    def base(self) -> int:
        return self.rig.rejoin_through or 0

    def hear(self, limit: int | None = None) -> None:
        news = self.rig.hear(limit)
        if news.flow is not None:
            self.credit = news.flow.send_through_sequence

    def send(self, kind: str) -> None:
        try:
            self.rig.send(kind)
        except UnavailableError:
            # The session took a cut for the end: back, with one packet more.
            self.rig.disconnect()
            self.connect()

    def may_send(self) -> bool:
        sequence = self.base + len(self.rig.sent)
        return self.credit is None or sequence <= self.credit

    @precondition(lambda self: self.connected and not self.finished and not self.ended)
    @rule(kinds=KINDS)
    def packets_are_sent(self, kinds: str) -> None:
        for kind in kinds if self.rig.sent else "K" + kinds:
            if self.may_send():
                self.send(kind)

    @precondition(lambda self: self.connected and not self.finished and not self.ended)
    @rule()
    def a_packet_breaks_the_decoder(self) -> None:
        if self.rig.sent and self.may_send():
            self.broken = True
            self.send("!")

    @rule(steps=st.integers(1, 4))
    def a_worker_works(self, steps: int) -> None:
        for _ in range(steps):
            # As the pipeline does: decoding pauses while pictures of a recorded channel wait.
            if self.rig.session.config.policy is LIVE or len(self.rig.scheduler.queue) < 3:
                self.rig.work()

    @rule(fails=st.booleans())
    def the_engine_answers(self, fails: bool) -> None:
        self.broken |= fails
        self.rig.run(error="no" if fails else "")

    @rule()
    def a_frame_is_stale(self) -> None:
        if self.rig.session.config.policy is LIVE:
            self.rig.run(stale=True)

    @precondition(lambda self: self.connected)
    @rule(limit=st.integers(1, 5))
    def verdicts_come(self, limit: int) -> None:
        self.hear(limit)

    @precondition(lambda self: self.connected and self.rig.told)
    @rule()
    def they_are_acknowledged(self) -> None:
        self.rig.session.acknowledge(self.rig.told[-1][0])

    @precondition(lambda self: self.connected)
    @rule(lost=st.integers(0, 3))
    def the_connection_is_cut(self, lost: int) -> None:
        """The latest verdicts may be lost on their way, unless they were acknowledged."""
        kept = self.rig.session._books.ledger.first_kept
        while lost and self.rig.told and self.rig.told[-1][0] >= kept:
            self.rig.told.pop()
            lost -= 1
        self.rig.disconnect()

    @precondition(lambda self: not self.connected)
    @rule()
    def the_client_comes_back(self) -> None:
        self.connect()

    @precondition(lambda self: self.connected)
    @rule()
    def the_client_comes_back_before_the_cut_was_seen(self) -> None:
        self.connect()

    @precondition(lambda self: not self.finished and not self.ended)
    @rule()
    def a_cut_looks_like_the_end(self) -> None:
        if self.connected and self.rig.sent:
            self.rig.session.finish()
            self.rig.disconnect()

    @precondition(lambda self: self.connected and not self.finished)
    @rule(chance=st.integers(0, 5))
    def the_client_has_sent_all(self, chance: int) -> None:
        if chance == 0:
            self.finished = True
            self.rig.session.finish()

    @precondition(lambda self: self.connected and not self.ended)
    @rule(policy=st.sampled_from([LIVE, EVERY_FRAME]))
    def the_policy_changes(self, policy: Any) -> None:
        self.switched = True
        config = dataclasses.replace(self.rig.session.config, policy=policy)
        self.rig.session.update(config)

    @rule()
    def a_newer_version_takes_over(self) -> None:
        self.version += 1
        engine: Any = ToyEngine(str(self.version))
        self.rig.session.rebind((engine,))

    @precondition(lambda self: not self.ended)
    @rule(chance=st.integers(0, 9))
    def the_session_is_ended(self, chance: int) -> None:
        if chance == 0 and not self.rig.session.over:
            self.ended = True
            self.rig.session.end("DRAINING", SkipReason.DRAINING, UnavailableError("DRAINING", "going"))

    @invariant()
    def accounts_balance(self) -> None:
        if hasattr(self, "rig"):
            account = self.rig.session.account
            assert account.packets_received == account.packets_pending + account.analysed + account.skipped_total
            assert account.packets_received == self.rig.metrics.packets

    @invariant()
    def verdicts_are_dense_and_nobody_has_two(self) -> None:
        if hasattr(self, "rig"):
            first = self.rig.first_verdict_index
            assert [index for index, _ in self.rig.told] == list(range(first, first + len(self.rig.told)))
            judged = [verdict.packet.sequence for _, verdict in self.rig.told]
            assert len(set(judged)) == len(judged)

    @invariant()
    def frames_run_on_the_version_of_their_turn(self) -> None:
        if hasattr(self, "rig"):
            ran = [int(result.engine.version) for _, verdict in self.rig.told for result in verdict.results]
            assert ran == sorted(ran)
            assert {EngineRef("toy", str(version)) for version in ran} <= self.rig.session.bound.versions

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        rig = self.rig
        rig.reader.broken = False
        self.connect()
        if not self.finished and not self.ended:
            rig.session.finish()
        rig.settle_all()
        self.hear()
        self.verdicts_are_dense_and_nobody_has_two()
        assert rig.closing is not None
        assert rig.session.over
        assert rig.session.account.packets_pending == 0
        assert rig.overs >= 1
        assert all(picture.closed for picture in rig.pictures)
        judged = {verdict.packet.sequence: verdict.reason for _, verdict in rig.told}
        if not self.ended:
            assert sorted(judged) == list(range(self.base, self.base + len(rig.sent)))
            if not (self.broken or self.switched) and rig.policy is EVERY_FRAME:
                assert set(judged.values()) <= {None}


SessionMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestASessionUnderAnyInterleaving = SessionMachine.TestCase
