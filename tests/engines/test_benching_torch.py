from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import support_torch_models
from support_bundles import toy_manifest
from vedette_engines.benching.bench import BenchRequest, bench_ways
from vedette_engines.benching.torch_way import OpenTorch
from vedette_engines.benching.way import Runtime, Way, open_way
from vedette_engines.benching.ways import find_ways
from vedette_engines.bundle import Bundle
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vedette_engines.graft.signature import Signature
from vedette_engines.manifest import InputSpec, Precision
from vedette_engines.sources.spec import SourceSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 32
PREPROCESSING = Preprocessing("rgb", 1 / 255, IMAGENET_MEAN, IMAGENET_STD)
SOURCE = SourceSpec(
    "support_torch_models:tiny_resnet",
    input_size=(SIDE, SIDE),
    search_path=Path(support_torch_models.__file__).parent,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path, toy_manifest(input=InputSpec(SIDE, SIDE)))


def test_a_source_runs_eager_and_as_torchscript_beside_each_other(bundle: Bundle, tmp_path: Path) -> None:
    ways = find_ways(bundle, tmp_path, runners=("torch", "torchscript"), source=SOURCE, preprocessing=PREPROCESSING)

    report = bench_ways(BenchRequest(bundle, batches=(1, 2), seconds=0.1, threads=1, memory=False), ways)

    assert [way.runner for way in report.ways] == ["PyTorch eager", "TorchScript"]
    assert all(row.frames_per_s > 0 for row in report.rows)
    assert all("head's decoding not" in way.note for way in report.ways)
    assert any("without the head's decoding" in note for note in report.notes)


def test_frames_are_prepared_as_the_graph_does_it() -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8))
    opened = OpenTorch(Way("t", Runtime.EAGER, Precision.FP32, None, source=SOURCE, preprocessing=PREPROCESSING), 1)

    wanted = PREPROCESSING.apply(np.stack(frames), Signature("images", 1, "nchw", SIDE, SIDE, ()))

    np.testing.assert_allclose(opened.prepare(frames).numpy(), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(opened.prepare(frames[:1]).numpy(), wanted[:1], rtol=1e-5, atol=1e-6)
    assert opened.backend == "torch:PyTorch eager"
    opened.close()
    opened.close()


def test_without_a_source_pytorch_has_nothing_to_run() -> None:
    with pytest.raises(ImportInputError, match="there is no --source to run"):
        open_way(Way("PyTorch eager", Runtime.EAGER, Precision.FP32, None), toy_manifest(), 1)
