"""What cannot be judged is refused, by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vedette_server.data.rules import (
    Absence,
    Condition,
    Cross,
    Crowd,
    Dwell,
    Enter,
    EvidencePolicy,
    GateConfig,
    HealthConfig,
    Left,
    Line,
    Mask,
    MaskKind,
    Occupancy,
    Points,
    Rule,
    ScheduleSpan,
    Speed,
    TrackingConfig,
    WatchConfig,
    WrongWay,
    Zone,
)
from vedette_server.errors import InvalidError
from vedette_server.monitor.check import check

LABELS = ("person", "car")
SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
SOUND = WatchConfig(
    time_zone="Europe/Berlin",
    zones=(Zone("yard", SQUARE),),
    lines=(Line("gate", ((0.1, 0.5), (0.9, 0.5))),),
    masks=(Mask(MaskKind.PRIVACY, SQUARE),),
    evidence=EvidencePolicy.MASKED,
    rules=(
        Rule("in", Enter("yard"), labels=("person",), schedule=(ScheduleSpan((6, 7), 1320, 360),)),
        Rule("gate", Cross("gate")),
        Rule("none", Absence("", at_least_s=60.0)),
    ),
    width_metres=12.0,
)


def refusal(config: WatchConfig, labels: tuple[str, ...] = LABELS) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        check(config, labels)
    return caught.value


def with_rule(condition: Condition, **fields: object) -> WatchConfig:
    return replace(SOUND, rules=(Rule("one", condition, **fields),))  # type: ignore[arg-type]


def test_what_is_sound_passes() -> None:
    check(SOUND, LABELS)
    check(WatchConfig(), ())


def test_of_many_labels_those_are_named_first_that_were_perhaps_meant() -> None:
    many = [f"thing {number}" for number in range(80)] + ["person"]
    with pytest.raises(InvalidError, match=r"is 'persn'; allowed: person, thing 0, .* and 61 more"):
        check(with_rule(Enter("yard"), labels=("persn",)), many)


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        (((0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8)), "crossing itself (Self-intersection[0.5 0.5])"),
        (((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.7)), "(Self-intersection[0.4429 0.4429])"),
        (((0.2, 0.2), (0.8, 0.2), (1.2, 0.8)), "(1.2, 0.8)"),
        (((0.2, 0.2), (float("nan"), 0.2), (0.8, 0.8)), "(nan, 0.2)"),
        (((0.2, 0.2), (0.8, 0.2)), "2 points; allowed: 3 to 64"),
        (((0.2, 0.2), (0.5, 0.5), (0.8, 0.8)), "allowed: "),
    ],
)
def test_a_zone_that_crosses_itself_or_lies_outside_is_refused(vertices: Points, words: str) -> None:
    error = refusal(replace(SOUND, zones=(Zone("yard", vertices),)))
    assert error.reason == "INVALID_ZONE"
    assert error.message.startswith("zones.yard.vertices is ")
    assert words in error.message


def test_a_mask_is_held_to_the_same() -> None:
    bow = ((0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8))
    assert refusal(replace(SOUND, masks=(Mask(MaskKind.MOTION, bow),))).reason == "INVALID_MASK"


def test_a_line_without_length_is_refused() -> None:
    error = refusal(replace(SOUND, lines=(Line("gate", ((0.5, 0.5), (0.5, 0.5))),)))
    assert error.reason == "INVALID_LINE"


@pytest.mark.parametrize(
    ("config", "reason", "words"),
    [
        (with_rule(Enter("yrad")), "UNKNOWN_ZONE", "rules.one.zone is 'yrad'; allowed: yard"),
        (with_rule(Cross("gaet")), "UNKNOWN_LINE", "rules.one.line is 'gaet'; allowed: gate"),
        (with_rule(Enter("yard"), labels=("persn",)), "UNKNOWN_LABEL", "'persn'; allowed: person, car"),
        (replace(SOUND, time_zone="Europe/Atlantis"), "INVALID_TIME_ZONE", "time_zone is 'Europe/Atlantis'"),
        (replace(SOUND, time_zone="../etc/passwd"), "INVALID_TIME_ZONE", "time_zone"),
        (replace(SOUND, time_zone=""), "INVALID_TIME_ZONE", "time_zone is ''"),
        (replace(SOUND, time_zone="Europe"), "INVALID_TIME_ZONE", "time_zone is 'Europe'"),
        (with_rule(Occupancy("yard")), "INVALID_RULE", "at_least, at_most or both are set"),
        (with_rule(Occupancy("yard", at_least=0)), "INVALID_RULE", "0 always holds"),
        (with_rule(Occupancy("yard", at_least=3, at_most=2)), "INVALID_RULE", "it always holds"),
        (with_rule(Crowd("yard", 1, 0.1)), "INVALID_RULE", "rules.one.at_least is 1; allowed: 2 or more"),
        (with_rule(Crowd("yard", 2, 0.0)), "INVALID_RULE", "rules.one.distance is 0.0; allowed: above 0"),
        (with_rule(Speed("yard")), "INVALID_RULE", "above, below or both"),
        (with_rule(Speed("yard", above=-1.0)), "INVALID_RULE", "rules.one.above is -1.0"),
        (with_rule(WrongWay("yard", 370.0)), "INVALID_RULE", "rules.one.allowed_degrees is 370.0; allowed: 0 to 360"),
        (with_rule(WrongWay("yard", 0.0, 180.0)), "INVALID_RULE", "above 0 and below 180"),
        (with_rule(Dwell("yard", 0.0)), "INVALID_RULE", "rules.one.at_least_s is 0.0"),
        (with_rule(Left("yard", float("inf"))), "INVALID_RULE", "rules.one.at_least_s is inf"),
        (with_rule(Enter("yard"), min_score=1.5), "INVALID_RULE", "rules.one.min_score is 1.5; allowed: 0 to 1"),
        (with_rule(Enter("yard"), min_time_s=-1.0), "INVALID_RULE", "rules.one.min_time_s is -1.0"),
        (with_rule(Enter("yard"), hysteresis=0.3), "INVALID_RULE", "rules.one.hysteresis is 0.3; allowed: 0 to 0.2"),
        (replace(SOUND, rules=(SOUND.rules[0],) * 2), "INVALID_RULE", "'in'; allowed: each name once"),
        (replace(SOUND, zones=(Zone("a b", SQUARE),)), "INVALID_ZONE", "zones.name is 'a b'"),
        (replace(SOUND, width_metres=0.0), "INVALID_SCALE", "width_metres is 0.0"),
        (replace(SOUND, tracking=TrackingConfig(confirm_frames=0)), "INVALID_TRACKING", "confirm_frames is 0"),
        (replace(SOUND, gate=GateConfig(min_area=2.0)), "INVALID_GATE", "gate.min_area is 2.0; allowed: 0 to 1"),
        (replace(SOUND, health=HealthConfig(ignored=frozenset({"enter"}))), "INVALID_HEALTH", "'enter'; allowed: cam"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed(
    config: WatchConfig, reason: str, words: str
) -> None:
    error = refusal(config)
    assert error.reason == reason
    assert words in error.message
    assert "; allowed: " in error.message


@pytest.mark.parametrize(
    "span", [ScheduleSpan((0,)), ScheduleSpan((8,)), ScheduleSpan(from_minute=1440), ScheduleSpan(to_minute=0)]
)
def test_a_span_that_is_on_no_clock_is_refused(span: ScheduleSpan) -> None:
    assert refusal(with_rule(Enter("yard"), schedule=(span,))).reason == "INVALID_SCHEDULE"


def test_a_schedule_that_never_fires_is_refused() -> None:
    lunch = (ScheduleSpan((), 720, 750),)
    error = refusal(with_rule(Dwell("yard", 1500.0), schedule=lunch, min_time_s=301.0))
    assert error.reason == "SCHEDULE_NEVER_FIRES"
    assert "1800 s" in error.message
    assert "1801 s" in error.message
    check(with_rule(Dwell("yard", 1500.0), schedule=lunch, min_time_s=300.0), LABELS)


def test_labels_are_not_judged_where_they_are_not_known() -> None:
    check(with_rule(Enter("yard"), labels=("whatever",)), ())


def test_a_privacy_mask_needs_evidence_that_is_masked_or_none() -> None:
    original = replace(SOUND, evidence=EvidencePolicy.ORIGINAL)
    refused = refusal(original)
    assert refused.reason == "INVALID_MASK"
    assert "masks[0].kind is 'privacy'; allowed: with evidence masked or none" in refused.message
    check(replace(SOUND, evidence=EvidencePolicy.NONE), LABELS)
    check(replace(original, masks=(Mask(MaskKind.DETECTION, SQUARE), Mask(MaskKind.MOTION, SQUARE))), LABELS)
