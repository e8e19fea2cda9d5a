"""What a build is told before its work begins, and how its user's own words come back in what it says."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from support_building import colour_model, write_material
from vedette_engines.building.build import Builder
from vedette_engines.building.report import Outcome
from vedette_engines.cli_build import defaults
from vedette_engines.cli_build_request import build_request
from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.building.request import BuildRequest


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_material(tmp_path)
    return tmp_path


def request(place: Path, **changes: Any) -> BuildRequest:
    words = {
        "source": str(place / "colours.onnx"),
        "name": "colours",
        "labels": place / "colours.names",
        "engines_dir": place / "engines",
        "work": place / "work",
        "activated": False,
    }
    return build_request({**defaults(), **words, **changes})


def refusal(wanted: BuildRequest) -> str:
    with pytest.raises(ImportInputError) as caught:
        Builder(wanted, lambda line: None).run()
    return str(caught.value)


def test_a_plan_without_weights_is_not_published(place: Path) -> None:
    told = refusal(request(place, profile=["1:8:32"], strip=True))
    assert told.startswith("--strip leaves the weights out")
    assert "give --no-publish" in told
    # Where nothing is published there is nothing against it.
    Builder(request(place, profile=["1:8:32"], strip=True, publish=False), lambda line: None)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"strip": True}, "--strip is about TensorRT plans: give --profile"),
        ({"plan_precision": "fp16"}, "--plan-precision is about TensorRT plans"),
        ({"dynamic": True}, "--dynamic is about INT8: give --precision int8"),
        ({"exclude": ["dense"], "precision": "fp16"}, "--exclude is about INT8"),
        ({"auto_exclude": True}, "--auto-exclude is about INT8"),
        ({"precision": "int8", "dynamic": True, "auto_exclude": True}, "--auto-exclude means nothing to --dynamic"),
        (
            {"precision": "int8", "percentile": "99.9", "calibration_method": "minmax"},
            "--percentile means nothing to --calibration-method minmax",
        ),
    ],
)
def test_what_is_said_in_vain_is_refused(place: Path, said: dict[str, Any], told: str) -> None:
    with pytest.raises(ImportInputError, match=told):
        Builder(request(place, frames=[place], **said), lambda line: None)


def test_the_wishes_for_plans_are_all_taken(place: Path) -> None:
    plans = request(place, profile=["1:8:32", "2:2:2"], workspace="1.5 GiB", tf32=True).plans
    assert plans is not None
    assert plans.tf32
    assert plans.profiles == ((1, 8, 32), (2, 2, 2))
    assert plans.workspace_bytes == 3 << 29


def test_a_head_of_ones_own_that_has_changed_makes_the_engine_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from vedette_engines.graft.heads.classifier import ClassifierHead\n\n\nclass Mine(ClassifierHead):\n"
    code += "    name = 'mine'\n"
    (place / "my_own_head.py").write_text(code)
    monkeypatch.syspath_prepend(place)
    head = importlib.import_module("my_own_head").Mine()

    def stages() -> dict[str, Outcome]:
        report = Builder(request(place, head="mine"), lambda line: None, {"mine": head}).run()
        return {stage.name: stage.outcome for stage in report.stages}

    assert stages() == {"export": Outcome.DONE, "engine": Outcome.DONE}
    assert stages() == {"export": Outcome.REUSED, "engine": Outcome.REUSED}
    (place / "my_own_head.py").write_text(code + "    # and now for something else\n")
    assert stages() == {"export": Outcome.REUSED, "engine": Outcome.DONE}


def test_a_file_is_called_as_its_user_calls_it(place: Path) -> None:
    told = refusal(request(place, input_size="64x64"))
    assert told == "--input-size is 64x64, but colours.onnx takes 32x32 only"
    open_size = colour_model()
    for axis, name in ((2, "height"), (3, "width")):
        open_size.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(open_size, str(place / "yard.onnx"))
    assert refusal(request(place, source=str(place / "yard.onnx"))).startswith("yard.onnx: leaves its input size open")
