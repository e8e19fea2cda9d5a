"""The whole server on a real GPU: gRPC in, verdicts out, equal to those of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_gpu_serving import serving
from support_streams import encoded, grey, publish_gauge
from vedette_client import Client, Policy
from vedette_engines.cuda.opening import open_device
from vedette_engines.errors import EnginesError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_gpu_serving import Serving
    from support_streams import Packets

pytestmark = pytest.mark.gpu


@pytest.fixture
def root(tmp_path: Path) -> Path:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA")
    try:
        open_device(0).close()
    except EnginesError as error:
        pytest.skip(str(error))
    publish_gauge(tmp_path)
    return tmp_path


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().out


async def scores(server: Serving, source: Packets, backend: str) -> dict[int, list[float]]:
    async with Client(server.address) as client:
        analysis = await client.start(source, "a", engines=["gauge"], policy=Policy.EVERY_FRAME)
        verdicts = [verdict async for verdict in analysis]
    assert {result.backend for verdict in verdicts for result in verdict.results} == {backend}
    return {verdict.sequence: [found.score for found in verdict.detections] for verdict in verdicts}


@pytest.mark.parametrize("preprocess", ["cpu", "device"])
async def test_verdicts_of_cuda_are_those_of_the_cpu(root: Path, printed: Callable[[], str], preprocess: str) -> None:
    sources = (lambda: grey([5, 90, 30, 200] * 8), lambda: encoded("h264-b"))
    async with serving(root, None, printed, providers=("cpu",)) as server:
        wanted = [await scores(server, make(), "onnxruntime:CPUExecutionProvider") for make in sources]
    async with serving(root, None, printed, providers=("cuda",), preprocess=preprocess) as server:
        found = [await scores(server, make(), "onnxruntime:CUDAExecutionProvider") for make in sources]
        figures = await server.metrics()
    assert any(name.startswith("vedette_batch_part_seconds_count") for name in figures)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for sequence, those in theirs.items():
            # The kernel's bound: half a level on the mean of a picture.
            assert ours[sequence] == pytest.approx(those, abs=(0.5 if preprocess == "device" else 0.01) / 256)
