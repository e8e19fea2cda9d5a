"""Whoever looks at a session sees all that passes, in order, and cannot hurt it."""

from __future__ import annotations

import threading

from support_session import EVERY_FRAME, LIVE, Rig, ToyWatcher, reasons, rig, stream
from vedette_server.data.outcome import SkipReason


def watched(watcher: ToyWatcher, **wishes: object) -> Rig:
    return rig(watcher=watcher, **wishes)


def test_every_verdict_is_looked_at_once_in_presentation_order_before_it_is_told() -> None:
    watcher = ToyWatcher()
    made = watched(watcher)
    for kind in "KPPB":
        made.send(kind)
    for _ in range(10):
        made.work()
    # The engine answers the last first.
    made.scheduler.running, made.scheduler.queue = [], made.scheduler.queue
    made.settle_all()
    made.hear()
    made.session.finish()
    made.settle_all()
    made.hear()
    assert watcher.judged == [verdict.packet.sequence for _, verdict in made.told]
    assert sorted(watcher.judged) == [0, 1, 2, 3]
    assert watcher.told_indices == {verdict.packet.sequence: index for index, verdict in made.told}


def test_a_packet_is_shown_when_it_is_let_in_and_one_that_comes_again_is_not() -> None:
    watcher = ToyWatcher()
    made = watched(watcher)
    stream(made, "KP")
    made.disconnect()
    made.connect()
    assert watcher.calls == ["attached", "packet 0", "packet 1", "attached"]


def test_a_watcher_that_fails_costs_no_verdict() -> None:
    watcher = ToyWatcher(fails_at={1, 2})
    made = watched(watcher)
    stream(made, "KPPP")
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == dict.fromkeys(range(4))
    assert made.closing is not None
    assert made.closing.analysed == 4


def test_a_picture_in_which_nothing_moves_is_not_analysed() -> None:
    watcher = ToyWatcher()
    watcher.quiet = {1}
    made = watched(watcher)
    stream(made, "KPP")
    made.session.finish()
    made.settle_all()
    made.hear()
    assert reasons(made) == {0: None, 1: SkipReason.NO_MOTION, 2: None}
    assert all(picture.closed for picture in made.pictures)


def test_the_end_is_told_once_after_the_last_verdict() -> None:
    watcher = ToyWatcher(on_judge=lambda: watcher.calls.append("judge"))
    made = watched(watcher, policy=LIVE)
    made.send("K")
    made.session.finish()
    made.settle_all()
    assert watcher.calls[-2:] == ["judge", "ended FINISHED"]
    assert made.overs == 1


def test_while_one_thread_looks_the_others_leave_theirs_to_it_and_nothing_is_lost() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert go_on.wait(10)

    watcher = ToyWatcher(on_judge=wait)
    made = watched(watcher, policy=EVERY_FRAME)
    for kind in "KP":  # the toy decoder answers a picture when the next one comes
        made.send(kind)
        made.work()
    looking = threading.Thread(target=made.run)
    looking.start()
    assert entered.wait(10)
    made.send("P")
    made.work()
    made.run()  # comes back at once, though its verdict was not looked at
    assert made.hear().verdicts == []
    go_on.set()
    looking.join(10)
    made.hear()
    assert watcher.judged == [0, 1]
    assert [verdict.packet.sequence for _, verdict in made.told] == [0, 1]
