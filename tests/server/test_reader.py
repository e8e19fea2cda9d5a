from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from vedette_engines.manifest import Defaults
from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.verdict import EngineLabel
from vedette_server.execute.client import Inference
from vedette_server.picture.letterbox import Letterbox
from vedette_server.post.reader import ResultReader


@dataclass
class FakeEngine:
    """As much of an InferenceClient as a reader looks at."""

    label: EngineLabel
    fit: Letterbox = field(default_factory=lambda: Letterbox(400, 400))
    defaults: Defaults = field(default_factory=lambda: Defaults(min_score=0.5, iou=0.45))


@dataclass
class FakeFrame:
    width: int = 800
    height: int = 400
    rotation_degrees: int = 0


def engine(task: str = "detector", name: str = "e") -> FakeEngine:
    return FakeEngine(EngineLabel(name, "1", "fake", task, ("person", "car")))


def channel(**options: object) -> ChannelConfig:
    aspect = options.pop("sample_aspect", Fraction(1))
    return ChannelConfig("a", VideoFormat(Codec.H264, sample_aspect=aspect), (EngineRef("e"),), **options)


def inference(row: np.ndarray | None, error: str = "") -> Inference:
    return Inference(row, batch_size=3, started_s=0.0, finished_s=0.0, error=error)


def candidates(score: float) -> np.ndarray:
    return np.array([[100, 50, 200, 150, score, 1], [0, 0, 0, 0, 0, 0]], np.float32)


def test_a_detectors_row_becomes_detections_of_the_frame():
    detector = engine()
    outcome = ResultReader(channel(), (detector,)).read(0, inference(candidates(0.9)), FakeFrame())

    assert outcome.engine is detector.label
    assert outcome.batch_size == 3
    assert np.allclose(outcome.detections.boxes, [[0.25, 0.25, 0.5, 0.75]])


def test_the_engines_defaults_hold_where_the_channel_says_nothing():
    def found(config: ChannelConfig) -> int:
        return len(ResultReader(config, (engine(),)).read(0, inference(candidates(0.4)), FakeFrame()).detections)

    assert found(channel()) == 0
    assert found(channel(min_score=0.3)) == 1


def test_every_engine_has_its_own_filter_and_place():
    small = engine()
    small.fit = Letterbox(200, 200, "centre")
    reader = ResultReader(channel(), (engine(), small))

    outcome = reader.read(1, inference(candidates(0.9)), FakeFrame())

    assert np.allclose(outcome.detections.boxes, [[0.5, 0.0, 1.0, 1.0]])


def test_wide_samples_are_taken_into_account():
    reader = ResultReader(channel(sample_aspect=Fraction(2)), (engine(),))

    outcome = reader.read(0, inference(candidates(0.9)), FakeFrame(width=400, height=400))

    assert np.allclose(outcome.detections.boxes, [[0.25, 0.25, 0.5, 0.75]])


@pytest.mark.parametrize("task", ["classifier", "embedder"])
def test_a_vector_is_handed_on_as_a_copy(task):
    row = np.array([0.1, 0.9], np.float32)

    outcome = ResultReader(channel(), (engine(task),)).read(0, inference(row), FakeFrame())
    row[:] = 0

    assert outcome.detections is None
    assert outcome.vector.tolist() == pytest.approx([0.1, 0.9])


def test_a_failed_inference_cannot_be_read():
    with pytest.raises(ValueError, match="engine e gave no row: out of memory"):
        ResultReader(channel(), (engine(),)).read(0, inference(None, "out of memory"), FakeFrame())
