"""Small engines for TensorRT's builder, and machines that the tests do not run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from vedette_engines.manifest import PlanInfo
from vedette_engines.plans.environment import Environment
from vedette_engines.plans.gpus import Gpu
from vedette_engines.plans.request import PlanRequest, Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import NodeProto

THREE = (Profile(1, 1, 1), Profile(1, 8, 8), Profile(1, 16, 32))
LINUX = "linux-x86_64"
H100 = Gpu("NVIDIA H100 80GB HBM3", "sm_90", "GPU-aaaa-1111")
H100_PCIE = Gpu("NVIDIA H100 PCIe", "sm_90", "GPU-bbbb-2222")
RTX_3090 = Gpu("NVIDIA GeForce RTX 3090", "sm_86", "GPU-cccc-3333")
T4 = Gpu("Tesla T4", "sm_75", "GPU-dddd-4444")


def machine(*gpus: Gpu, platform: str = LINUX, **modules: str) -> Environment:
    """Make a machine with some GPUs and versions of TensorRT."""
    return Environment(platform, gpus, "580.65.06" if gpus else "", modules)


def plan_of(**changes: object) -> PlanInfo:
    """Describe a plan of full TensorRT, built on an H100."""
    values = {
        "module": "tensorrt",
        "version": "10.13.2.6",
        "targets": ("sm_90",),
        "platform": LINUX,
        "profiles": ((1, 8, 32),),
        "gpu": H100.name,
        "driver": "580.65.06",
    }
    return PlanInfo(**values | changes)  # type: ignore[arg-type]


def write_model(
    folder: Path,
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    batch: int | str = "N",
    domains: Sequence[str] = (),
) -> Path:
    """Write a model `frames` `[batch, 8, 8, 3]` to `y`."""
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, [batch, 8, 8, 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    graph = helper.make_graph(list(nodes), "small", [frames], [result], weights)
    path = folder / "small.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


def plain_model(folder: Path, batch: int | str = "N") -> Path:
    """Write a model that everything takes."""
    return write_model(folder, [helper.make_node("Relu", ["frames"], ["y"], name="relu")], batch=batch)


def wish(onnx: Path, **changes: object) -> PlanRequest:
    """Ask for a plan with one profile."""
    return PlanRequest(onnx, **{"profiles": (Profile(1, 2, 4),), **changes})  # type: ignore[arg-type]
