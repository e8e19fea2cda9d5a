"""What we call of TensorRT's runtime, and what the fake has of it, against the bindings that are installed."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest

import support_faketensorrt_runtime as fake_runtime
from support_bundles import toy_manifest, toy_model
from support_plans import RTX_3090, machine
from support_tensorrt_engine import OneDevice
from vedette_engines.bundle import write_bundle
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.errors import LoadError
from vedette_engines.gpu import tensorrt_context, tensorrt_messages, tensorrt_plan, tensorrt_rtx
from vedette_engines.manifest import Backend, EngineFile
from vedette_engines.plans.building import build_plan
from vedette_engines.plans.module import find_tensorrt
from vedette_engines.plans.request import PlanRequest, Profile
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

trt = pytest.importorskip("tensorrt_rtx_bindings")
MODULES = (tensorrt_plan, tensorrt_context, tensorrt_rtx, tensorrt_messages)
# By what our code calls the things: TensorRT's class, None is the module itself.
CLASSES = {
    "trt": None,
    "_trt": None,
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "runtime": "Runtime",
    "_runtime": "Runtime",
    "config": "IRuntimeConfig",
    "_cache": "IRuntimeCache",
}
ONLY_IN_10_0 = {"device_memory_size"}


def receiver(node: ast.expr) -> str | None:
    """Tell what a thing is called: `engine` and `self._engine` alike."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def class_of(name: str) -> Any:
    kind = CLASSES[name]
    return trt if kind is None else getattr(trt, kind)


def uses(module: ModuleType) -> Iterator[tuple[str, str, ast.expr]]:
    """Give every attribute that is used of something of TensorRT's: what of, its name, the node."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute):
            of = receiver(node.value)
            if of in CLASSES:
                yield of, node.attr, node


def named(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Give every name that is looked for by its text: `getattr(context, "is_stream_capturable", None)`."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr"}:
            of = receiver(node.args[0])
            if of in CLASSES and isinstance(node.args[1], ast.Constant):
                yield of, str(node.args[1].value)


def test_every_name_that_we_call_is_in_the_installed_bindings() -> None:
    found = {(of, name) for module in MODULES for of, name, _ in uses(module)}
    found |= {pair for module in MODULES for pair in named(module)}
    assert len(found) > 40
    assert [(of, name) for of, name in sorted(found) if not hasattr(class_of(of), name)] == []


def test_every_member_of_an_enumeration_that_we_use_is_in_the_installed_bindings() -> None:
    members = [
        (node.value.attr, node.attr)
        for module in MODULES
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)
        if receiver(node.value.value) in {"trt", "_trt"}
    ]
    assert len(members) >= 8
    assert [pair for pair in members if not hasattr(getattr(trt, pair[0]), pair[1])] == []


def counts(of: str, name: str) -> list[range]:
    """Tell from the docstring how many arguments each overload takes."""
    text = getattr(class_of(of), name).__doc__ or ""
    found = []
    for arguments in re.findall(rf"{name}\(self: [\w.]+(.*)\) ->", text):
        plain = re.sub(r"<[^>]*>", "x", arguments)
        while "[" in plain:
            plain = re.sub(r"\[[^\[\]]*\]", "", plain)
        parts = [part for part in plain.split(",") if part.strip()]
        needed = sum("=" not in part for part in parts)
        found.append(range(needed, len(parts) + 1))
    return found


def test_every_call_has_as_many_arguments_as_the_installed_bindings_take() -> None:
    checked, wrong = 0, []
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            of = receiver(node.func.value)
            if of not in CLASSES or CLASSES[of] is None:
                continue
            takes = counts(of, node.func.attr)
            checked += bool(takes)
            if takes and not any(len(node.args) in allowed for allowed in takes):
                wrong.append((of, node.func.attr, len(node.args)))
    assert checked > 20
    assert wrong == []


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("_Runtime", "Runtime"),
        ("_Engine", "ICudaEngine"),
        ("_Context", "IExecutionContext"),
        ("_Config", "IRuntimeConfig"),
        ("_Cache", "IRuntimeCache"),
    ],
)
def test_the_fake_has_no_method_that_tensorrt_has_not(ours: str, theirs: str) -> None:
    methods = {name for name, value in vars(getattr(fake_runtime, ours)).items() if callable(value) and name[0] != "_"}
    assert methods - {"report"} - set(dir(getattr(trt, theirs))) == set()


def test_the_fakes_enumerations_are_tensorrts() -> None:
    pairs = {
        "TensorIOMode": fake_runtime.Mode,
        "DataType": fake_runtime.Element,
        "TensorLocation": fake_runtime.Location,
        "TensorFormat": fake_runtime.Format,
        "ExecutionContextAllocationStrategy": fake_runtime.Strategy,
        "EngineStat": fake_runtime.Stat,
        "CudaGraphStrategy": fake_runtime.Graphs,
        "DynamicShapesKernelSpecializationStrategy": fake_runtime.Kernels,
        "EngineInvalidityDiagnostics": fake_runtime.Diagnostics,
    }
    for name, ours in pairs.items():
        assert set(ours.__members__) <= set(getattr(trt, name).__members__), name
    assert {name: int(value) for name, value in trt.EngineInvalidityDiagnostics.__members__.items()}.items() >= {
        name: int(value) for name, value in fake_runtime.Diagnostics.__members__.items()
    }.items()


def rtx_bundle(root: Path, content: bytes | None = None) -> Any:
    """Publish the toy with a plan that TensorRT for RTX builds of it, or with other bytes."""
    onnx = root / "toy.onnx"
    root.mkdir(exist_ok=True)
    onnx.write_bytes(toy_model().SerializeToString())
    request = PlanRequest(onnx, profiles=(Profile(1, 1, 1), Profile(2, 4, 8)), targets=("sm_86",))
    built = build_plan(request, find_tensorrt("tensorrt_rtx"), lambda line: None, environment=machine())
    file = EngineFile("toy.plan", Backend.TENSORRT, max_batch=8, plan=built.info)
    return write_bundle(root / "engines", toy_manifest(files=(file,)), {"toy.plan": content or built.content})


def test_a_plan_that_was_really_built_is_offered_to_tensorrt_which_lacks_only_a_gpu(tmp_path: Path) -> None:
    bundle = rtx_bundle(tmp_path)
    here = machine(RTX_3090, tensorrt_rtx=trt.__version__)
    with pytest.raises(LoadError) as raised:
        open_engine(bundle, RunnerSettings(), here, OneDevice(SimulatedDevice()))
    print(raised.value)
    assert str(raised.value).startswith(
        f"engine toy 1: plan toy.plan: loading it with tensorrt_rtx {trt.__version__}: "
    )
    assert "CUDA driver version is insufficient" in str(raised.value)


def test_bytes_that_are_no_plan_are_refused_as_such(tmp_path: Path) -> None:
    bundle = rtx_bundle(tmp_path, b"no plan at all" * 100)
    here = machine(RTX_3090, tensorrt_rtx=trt.__version__)
    with pytest.raises(LoadError, match=r"loading it with tensorrt_rtx .*: MALFORMED_ENGINE"):
        open_engine(bundle, RunnerSettings(), here, OneDevice(SimulatedDevice()))
