"""The one engine contract, as far as an ONNX file declares it.

Input `frames`: `uint8 [N, H, W, 3]`. Output of a detector `candidates`: `float32 [N, K, 6 + E]`, of a classifier
`scores`: `float32 [N, C]`, of an embedder `embedding`: `float32 [N, D]`. One input, one output;
nothing outside the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette_engines.errors import BundleError, MissingRuntimeError

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.manifest import EngineFile, Manifest

INPUT_NAME = "frames"


def check_onnx(path: Path, file: EngineFile, manifest: Manifest) -> None:
    """Compare the inputs and outputs that an ONNX file declares with the contract and the manifest.

    Raises:
        BundleError: They differ; the message tells what is there and what is wanted.
        MissingRuntimeError: The package `onnx` is not installed.
    """
    graph = _load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    _check_tensor(f"{file.path}: input", inputs, INPUT_NAME, "UINT8", [file.batch, *manifest.slot_shape])
    _check_tensor(
        f"{file.path}: output", list(graph.output), manifest.output_name, "FLOAT", [file.batch, *manifest.output_shape]
    )


def _load(path: Path) -> Any:
    try:
        import onnx  # noqa: PLC0415  (the base install has no onnx)
        from google.protobuf.message import DecodeError  # noqa: PLC0415
    except ImportError as error:
        raise MissingRuntimeError(
            "engines need onnx: pip install 'vedette[cpu]', or 'vedette[gpu]' for CUDA"
        ) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{path.name} is not an ONNX model: {error}") from error
    external = onnx.TensorProto.EXTERNAL
    for tensor in model.graph.initializer:
        if tensor.data_location == external:
            raise BundleError(f"{path.name}: weight {tensor.name!r} is in another file; all must be in one")
    return model


def _check_tensor(what: str, values: list[Any], name: str, element: str, shape: list[int | None]) -> None:
    """Check that there is one tensor of this name, element and shape; None is a dimension that is not fixed."""
    import onnx  # noqa: PLC0415

    if [value.name for value in values] != [name]:
        have = ", ".join(value.name for value in values) or "none"
        raise BundleError(f"{what}s are {have}; wanted is one, named {name}")
    tensor = values[0].type.tensor_type
    have_element = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if have_element != element:
        raise BundleError(f"{what} {name} is {have_element}; wanted: {element}")
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if dims != shape:
        raise BundleError(f"{what} {name} is {_shape_text(dims)}; wanted: {_shape_text(shape)}")


def _shape_text(dims: list[int | None]) -> str:
    return f"[{', '.join('N' if dim is None else str(dim) for dim in dims)}]"
