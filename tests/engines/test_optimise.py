from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from support_bundles import toy_model
from vedette_engines.bundle import Bundle, load_bundle, write_bundle
from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.manifest import DetectorOutput
from vedette_engines.optimise import optimise
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.optimise import Level


def boxed(name: str) -> tuple[Bundle, bytes]:
    bundle = EngineRepository([boxed_root()]).resolve(name)
    return bundle, bundle.path_of(bundle.manifest.files[0]).read_bytes()


def operators(content: bytes) -> set[str]:
    return {f"{node.domain}:{node.op_type}" for node in onnx.load_from_string(content).graph.node}


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_an_optimised_engine_obeys_the_contract_and_gives_the_same(tmp_path: Path, level: Level) -> None:
    bundle, content = boxed("blobs")
    manifest = replace(bundle.manifest, version="2")
    assert isinstance(manifest.output, DetectorOutput)

    optimised = write_bundle(tmp_path, manifest, {manifest.files[0].path: optimise(content, level)})

    load_bundle(optimised.path)  # its declared border is the contract's
    frames = list(np.random.default_rng(0).integers(0, 256, (3, *manifest.slot_shape), np.uint8))
    with open_engine(bundle) as before, open_engine(optimised) as after:
        for count in (1, 3):
            want, have = before.open_lane().run(frames[:count]), after.open_lane().run(frames[:count])
            np.testing.assert_allclose(have[..., 4], want[..., 4], atol=1e-5)


def test_basic_leaves_plain_onnx_that_other_runtimes_read() -> None:
    _, content = boxed("person")

    assert {name.partition(":")[0] for name in operators(optimise(content, "basic"))} <= {"", "ai.onnx"}


def test_something_is_optimised() -> None:
    _, content = boxed("person")

    before, after = (len(onnx.load_from_string(model).graph.node) for model in (content, optimise(content, "extended")))

    assert after < before


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ImportInputError, match="level is 'most'; allowed is basic, extended, all"):
        optimise(b"", "most")  # type: ignore[arg-type]


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ImportInputError, match="ONNX Runtime cannot optimise the model: "):
        optimise(b"no model", "basic")


def test_a_result_that_differs_is_refused() -> None:
    with pytest.raises(ImportRefusedError, match=r"level extended changed output candidates by .*; allowed is -1"):
        optimise(toy_model().SerializeToString(), "extended", tolerance=-1)
