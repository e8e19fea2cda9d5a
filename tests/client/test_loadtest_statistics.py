"""Figures from records: pure functions."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support_load
from support_load import load_plan, records, summary
from vedette_client.loadtest.judging import judge
from vedette_client.loadtest.page import html_page
from vedette_client.loadtest.plot import nice_ceiling
from vedette_client.loadtest.records import join
from vedette_client.loadtest.report import Searched, to_json
from vedette_client.loadtest.search import Found, Objective, Step, search
from vedette_client.loadtest.statistics import cdf, check_accounts, fairness, spread, summarise
from vedette_client.scene.truth import FrameTruth, TruthObject
from vedette_client.verdicts import Box, Detection

latencies = st.lists(st.floats(0.1, 5000), min_size=1, max_size=200)


@settings(max_examples=80, deadline=None)
@given(latencies)
def test_percentiles_are_values_that_occur_and_bound_their_share(values) -> None:
    found = spread(np.array(values))
    assert found.count == len(values)
    assert found.highest == max(values)
    for percent, value in ((50, found.p50), (90, found.p90), (95, found.p95), (99, found.p99)):
        assert value in values
        assert sum(one <= value for one in values) * 100 >= percent * len(values)
        assert sum(one < value for one in values) * 100 <= percent * len(values)


@settings(max_examples=80, deadline=None)
@given(latencies)
def test_a_distribution_rises_to_its_highest_value(values) -> None:
    points = cdf(np.array(values))
    assert all(a[0] <= b[0] and a[1] < b[1] for a, b in itertools.pairwise(points))
    assert points[-1] == (max(values), 1.0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_fairness_is_one_exactly_when_all_are_served_alike(shares) -> None:
    found = fairness(shares)
    assert 1 / len(shares) - 1e-6 <= found.jain <= 1 + 1e-6
    assert (found.least, found.most) == (min(shares), max(shares))
    assert found.ratio is None or found.ratio >= 1
    assert fairness([0.5] * len(shares)).jain == pytest.approx(1)


def test_a_test_that_outlasts_its_schedule_is_no_faster_for_it() -> None:
    assert summary([[18_100.0] * 20]).counts.analysed_fps == pytest.approx(1, rel=0.01)


def test_nothing_has_no_spread() -> None:
    assert spread(np.array([])) is None
    assert cdf(np.array([])) == []


def test_every_frame_is_counted_once() -> None:
    found = summary([[10.0] * 20, [30.0] * 15 + [None] * 5])
    counts = found.counts
    assert (counts.scheduled, counts.sent, counts.analysed, counts.skipped) == (40, 40, 35, {"STALE": 5})
    assert counts.analysed_fps == pytest.approx(35 / 2)
    assert counts.skip_percent == pytest.approx(100 * 5 / 40)
    assert found.latency.p50 == pytest.approx(10)
    assert found.latency.p95 == pytest.approx(30)
    assert found.latency.count == 35
    assert found.fairness.ratio == pytest.approx(20 / 15)
    assert found.stages["decode"].mean == pytest.approx(2)
    assert found.stages["total"].mean == pytest.approx(8)
    assert found.batches == {2: 35}
    assert (found.truth.frames, found.truth.hits, found.truth.misses) == (35, 105, 35)


def test_seconds_are_told_by_when_frames_were_due() -> None:
    found = summary([[10.0] * 10 + [500.0] * 10])
    assert [(one.at_s, one.scheduled, one.analysed) for one in found.seconds] == [(0, 10, 10), (1, 10, 10)]
    assert [one.p50_ms for one in found.seconds] == pytest.approx([10, 500])


def test_a_packet_without_a_picture_is_nobodys_fault() -> None:
    plan = load_plan(1)
    made = records(plan, [[10.0] * 18 + [None] * 2])
    made.cameras[0].skipped = Counter({"NO_FRAME": 2})
    assert summarise(plan, made).counts.skip_percent == 0


def test_the_server_is_charged_from_the_first_look_to_the_last() -> None:
    used = summary([[10.0] * 20]).server
    assert used.cpu_cores == pytest.approx(1.5)
    assert used.cpu_ms_per_frame == pytest.approx(3.0 / 20 * 1000)
    assert (used.rss_first_mib, used.rss_last_mib, used.rss_most_mib) == (100, 102, 102)
    assert summary([[10.0] * 20], samples=[]).server is None


def test_a_tester_that_was_busy_or_late_is_called_the_bottleneck() -> None:
    assert summary([[10.0] * 20]).tester.bottleneck == ""
    assert "core" in summary([[10.0] * 20], workers=[(1.9, 2.0)]).tester.bottleneck
    plan = load_plan(1)
    made = records(plan, [[10.0] * 20])
    late = replace(made, frames=replace(made.frames, late_s=np.full(20, 0.3, np.float32)))
    assert "late" in summarise(plan, late).tester.bottleneck


def test_others_on_the_machine_are_told() -> None:
    tester = summary([[10.0] * 20]).tester
    assert tester.others_cores == pytest.approx(0.9 * 2 - 0.1 - 1.5)
    assert tester.disturbance == ""
    assert "1.20 cores" in summary([[10.0] * 20], cores=3, workers=[(0.0, 2.0)]).tester.disturbance


@pytest.mark.parametrize(
    "change",
    [
        {"scheduled": 21},
        {"sent": 19},
        {"unsent": 1},
        {"analysed": 19},
        {"agreed": False},
        {"error": "gone"},
        {"skipped": Counter({"STALE": 1})},
    ],
)
def test_an_account_that_does_not_close_is_seen(change) -> None:
    cameras = records(load_plan(2), [[10.0] * 20] * 2).cameras
    assert check_accounts(cameras).problems == {}
    for name, value in change.items():
        setattr(cameras[1], name, value)
    found = check_accounts(cameras)
    assert (found.closed, list(found.problems)) == (1, ["load-0001"])


def test_records_of_several_processes_are_put_together_in_full() -> None:
    parts = [records(load_plan(1), [[10.0] * 20]).frames, records(load_plan(2), [[20.0] * 20, [None] * 20]).frames]
    whole = join(parts)
    assert len(whole) == 60
    assert whole.stages_us.shape == (60, 8)
    assert len(whole.late_s) == 60


# --- truth ----------------------------------------------------------------------------------------------

SEEN = FrameTruth((TruthObject("red", 0.1, 0.1, 0.3, 0.3, 1), TruthObject("blue", 0.6, 0.6, 0.8, 0.8, 2)))


def found(label: str, *box: float) -> Detection:
    return Detection(0, label, 0.9, Box(*box), Box(*box))


def test_detections_are_told_apart_into_hits_misses_inventions_and_wrong_labels() -> None:
    right = judge(SEEN, [found("red", 0.1, 0.1, 0.3, 0.3), found("blue", 0.6, 0.6, 0.8, 0.8)])
    assert (right.hits, right.misses, right.false_positives, right.wrong_labels) == (2, 0, 0, 0)
    wrong = judge(SEEN, [found("blue", 0.1, 0.1, 0.3, 0.3), found("red", 0.4, 0.4, 0.5, 0.5)])
    assert (wrong.hits, wrong.misses, wrong.false_positives, wrong.wrong_labels) == (0, 2, 1, 1)
    twice = judge(SEEN, [found("red", 0.1, 0.1, 0.3, 0.3)] * 2)
    assert (twice.hits, twice.misses, twice.false_positives, twice.wrong_labels) == (1, 1, 1, 0)


# --- search ---------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
def test_a_search_finds_what_holds_and_tries_each_number_once(capacity, first, most) -> None:
    tried = []

    def holds(channels: int) -> bool:
        assert 1 <= channels <= most
        tried.append(channels)
        return channels <= capacity

    result = search(holds, first=first, most=most)
    assert result.channels == min(capacity, most)
    assert result.limited == (capacity >= most)
    assert len(set(tried)) == len(tried) == result.steps
    assert len(tried) <= 2 * most.bit_length() + 2


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 100))
def test_a_search_ends_even_when_the_answers_make_no_sense(random, most) -> None:
    answers = {}
    result = search(lambda channels: answers.setdefault(channels, random.random() < 0.5), most=most)
    assert result.channels == 0 or answers[result.channels]
    assert result.steps == len(answers)


def test_an_objective_tells_what_was_missed() -> None:
    good = summary([[10.0] * 20])
    assert Objective(50, 1).misses(good) == []
    assert "p95" in Objective(5, 1).misses(good)[0]
    poor = summary([[10.0] * 10 + [None] * 10])
    assert "not analysed" in Objective(50, 1).misses(poor)[0]
    assert Objective(50, 60).misses(poor) == []
    assert "no frame" in Objective(50, 100).misses(summary([[None] * 20]))[0]


# --- what is written ------------------------------------------------------------------------------------


class Checker(HTMLParser):
    """Sees that every element is closed where it should be."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.problems: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen[tag] += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen[tag] += 1

    def handle_endtag(self, tag) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)


def searched_report():
    report = support_load.report([[10.0] * 20, [20.0] * 18 + [None] * 2])
    step = Step(2, [], report.summary)
    return replace(report, searched=Searched(Objective(100, 5), Found(2, False, 1), [step]))


@pytest.mark.parametrize(
    "report",
    [searched_report(), support_load.report([[10.0] * 20] * 40), support_load.report([[None] * 20])],
    ids=["search", "many cameras", "nothing analysed"],
)
def test_the_page_is_well_formed_and_needs_nothing_else(report) -> None:
    page = html_page(report)
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert (checker.problems, checker.open) == ([], [])
    assert checker.seen["svg"] >= 6
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", page)
    assert not re.search(r"\bnan\b|\binf\b", page)


def test_the_page_and_the_json_tell_the_measured_figures() -> None:
    report = searched_report()
    page = html_page(report)
    assert "2 channels hold" in page
    assert "<b>19.0</b>frames analysed per second" in page
    data = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert data.keys() == {"circumstances", "plan", "figures", "search"}
    assert data["figures"]["counts"]["analysed"] == 38
    assert data["search"]["steps"][0]["held"] is True
    assert data["plan"]["channels"] == 2


def test_nothing_that_lets_one_in_is_written_down() -> None:
    report = support_load.report([[10.0] * 20])
    secret = replace(report, plan=replace(report.plan, reach=replace(report.plan.reach, token="s3cret")))
    assert "s3cret" not in json.dumps(to_json(secret)) + html_page(secret)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 1e9))
def test_an_axis_ends_at_or_just_above_the_highest_value(value) -> None:
    assert value * (1 - 1e-6) <= nice_ceiling(value) <= value * 1.5
