"""What the original says about the sample frames, and whether a rewritten model says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from vedette_engines.errors import ImportInputError, ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.frames import Sample
    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.graft.session import Session
    from vedette_engines.graft.signature import Signature


class Probes:
    """The original's raw outputs, for each preprocessing that is asked for.

    Args:
        session: The original model.
        signature: Its border.
        samples: The frames to try.
    """

    def __init__(self, session: Session, signature: Signature, samples: Sequence[Sample]) -> None:
        self.signature = signature
        self._session = session
        self._samples = samples
        self._made: dict[Preprocessing, Probe] = {}

    def prepared(self, preprocessing: Preprocessing) -> Probe:
        """Run the samples, prepared like this, unless they ran before."""
        if preprocessing not in self._made:
            self._made[preprocessing] = Probe(self._session, self.signature, preprocessing, self._samples)
        return self._made[preprocessing]


class Probe:
    """The original's raw outputs on every sample frame, run one by one.

    Args:
        session: The original model.
        signature: Its border.
        preprocessing: What it wants of a pixel.
        samples: The frames to try.
    """

    def __init__(
        self, session: Session, signature: Signature, preprocessing: Preprocessing, samples: Sequence[Sample]
    ) -> None:
        self.signature = signature
        self.inputs = [preprocessing.apply(sample.pixels[None], signature) for sample in samples]
        self.raw = [session.run({signature.input_name: tensor}) for tensor in self.inputs]

    def joined(self) -> list[NDArray[Any]]:
        """Join the raw outputs of all samples along the batch: one array for each output.

        Raises:
            ImportInputError: An output has another shape for each frame.
        """
        for number, output in enumerate(self.signature.outputs):
            shapes = {raw[number].shape for raw in self.raw}
            if shapes != {output.shape}:
                raise ImportInputError(
                    f"output {output.name} has a shape of its own for each frame ({sorted(shapes)}); wanted are raw "
                    "outputs: export the model without its NMS"
                )
        return [np.concatenate(values) for values in zip(*self.raw, strict=True)]

    @property
    def tolerance(self) -> float:
        """How far a rewritten model's raw outputs may be off, as a part of their largest value."""
        return 1e-2 if self.signature.elem_type == TensorProto.FLOAT16 else 1e-4

    def disagreement(self, rewritten: Session, batch: int) -> str:
        """Run all samples through another model in batches of one size and tell where it differs; empty: nowhere."""
        for first in range(0, len(self.inputs), batch):
            numbers = [min(first + i, len(self.inputs) - 1) for i in range(batch)]
            tensor = np.concatenate([self.inputs[number] for number in numbers])
            try:
                outputs = rewritten.run({self.signature.input_name: tensor})
            except ImportRefusedError as error:
                return str(error)
            wanted = [np.concatenate(values) for values in zip(*(self.raw[number] for number in numbers), strict=True)]
            found = self._compare(outputs, wanted, batch)
            if found:
                return found
        return ""

    def _compare(self, outputs: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]], batch: int) -> str:
        for output, have, want in zip(self.signature.outputs, outputs, wanted, strict=True):
            if have.shape == (1, *want.shape[1:]) and (want == want[:1]).all():
                continue  # the same for every frame, as priors are: the head takes it for a constant
            if have.shape != want.shape:
                return f"output {output.name} is {list(have.shape)} at batch {batch}, wanted is {list(want.shape)}"
            expected = want.astype(np.float64)
            worst = float(np.abs(have.astype(np.float64) - expected).max(initial=0))
            allowed = self.tolerance * (1 + float(np.abs(expected).max(initial=0)))
            if not worst <= allowed:
                return f"output {output.name} is off by {worst:.3g} at batch {batch} (allowed: {allowed:.3g})"
        return ""
