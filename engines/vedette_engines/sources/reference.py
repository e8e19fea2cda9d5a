"""The source framework itself, to compare with: what an engine must agree with is what its trainer ran."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vedette_engines.errors import ImportInputError
from vedette_engines.sources.kinds import Kind
from vedette_engines.sources.opening import need_torch
from vedette_engines.sources.spec import check_spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.sources.spec import SourceSpec
    from vedette_engines.sources.torch_model import TorchModel


class Reference(Protocol):
    """A model in its source framework. One thread at a time may run it."""

    name: str

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run on `float32 [N, 3, height, width]`; the outputs flattened in the order of the export.

        Raises:
            ImportRefusedError: The model fails on this input.
        """
        ...

    def close(self) -> None:
        """Let go of the model; may be called twice."""
        ...


def open_reference(spec: SourceSpec) -> Reference:
    """Open a source in the framework that it came from.

    Raises:
        ImportInputError: It is no source, or lacks what only the user can tell.
        MissingRuntimeError: The framework is not installed.
    """
    if check_spec(spec) is Kind.ONNX:
        from vedette_engines.sources.session import PlainSession  # noqa: PLC0415  (needs a runtime)

        return PlainSession(Path(spec.source))
    need_torch()
    from vedette_engines.sources.eager import TorchReference  # noqa: PLC0415  (needs torch)
    from vedette_engines.sources.torch_model import open_model  # noqa: PLC0415

    model = open_model(spec)
    names = {"pt2": "torch.export program", "torchscript": "TorchScript"}
    return TorchReference(_settled(model), names.get(model.kind, "PyTorch eager"))


def open_torchscript(spec: SourceSpec) -> Reference:
    """Open a source as TorchScript, traced or scripted and frozen, as one would deploy it.

    Raises:
        ImportInputError: It cannot be: an ONNX file, or a model that neither traces nor compiles.
        MissingRuntimeError: PyTorch is not installed.
    """
    if check_spec(spec) is Kind.ONNX:
        raise ImportInputError(f"{spec.source}: is an ONNX file, which has no TorchScript")
    need_torch()
    from vedette_engines.sources.eager import TorchReference  # noqa: PLC0415  (needs torch)
    from vedette_engines.sources.scripting import scripted  # noqa: PLC0415
    from vedette_engines.sources.torch_model import open_model  # noqa: PLC0415

    return TorchReference(scripted(_settled(open_model(spec))), "TorchScript")


def _settled(model: TorchModel) -> TorchModel:
    """Note what running the model shows: that it takes one frame at a time."""
    from vedette_engines.sources.eager import examine  # noqa: PLC0415  (needs torch)

    if examine(model).lone:
        model.batches = (1, 1)
    return model
