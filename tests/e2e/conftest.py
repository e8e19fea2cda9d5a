"""Servers and engines that the end-to-end tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_serving import ASSETS, ServerProcess
from support_streams import publish_gauge
from vedette_engines.importing import ImportRequest, import_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def assets() -> Path:
    if not ASSETS.is_dir():
        pytest.skip("the folder of real clips and models is not here")
    return ASSETS


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def yolox_dir(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of engines with `yolox-nano` in it, imported as a user would."""
    root = tmp_path_factory.mktemp("engines")
    models = assets / "models"
    labels = tuple((models / "coco.names").read_text(encoding="utf-8").split("\n")[:80])
    import_model(ImportRequest(models / "yolox_nano_416.onnx", labels, "yolox-nano", "1", root), say=lambda _: None)
    return root


@pytest.fixture(scope="session")
def yolox_server(yolox_dir: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--engines-dir", str(yolox_dir), "--engine", "yolox-nano") as process:
        yield process


# A server whose patience tests can wait for; the engine is small and runs in one lane.
QUICK = (
    *("--engine", "blobs", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0"),
    *("--heartbeat-interval-s", "0.4", "--resume-window-s", "1.5", "--max-unacknowledged", "256"),
)


def check_log(process: ServerProcess) -> None:
    """What was not foreseen is logged with its traceback, and nobody would see it."""
    before, found, after = process.output.partition("Traceback")
    assert not found, before[-300:] + found + after[:3000]


@pytest.fixture(scope="session")
def gauges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of engines that tell the brightness; two of them take their time, one fails on bright pictures."""
    root = tmp_path_factory.mktemp("gauges")
    publish_gauge(root)
    publish_gauge(root, "slow", matmuls=10)
    publish_gauge(root, "slower", matmuls=10)
    publish_gauge(root, "moody", fails=True)
    return root


@pytest.fixture(scope="session")
def quick_server(gauges: Path) -> Iterator[ServerProcess]:
    with ServerProcess(*QUICK, "--engines-dir", str(gauges), "--metrics-port", "0") as process:
        yield process
        check_log(process)


@pytest.fixture(scope="session")
def narrow_server(gauges: Path) -> Iterator[ServerProcess]:
    """A server whose engines have but two slots each, so that channels must queue for them."""
    narrow = (*QUICK[:4], "--max-batch", "1", *QUICK[6:])
    with ServerProcess(*narrow, "--engines-dir", str(gauges)) as process:
        yield process
        check_log(process)


@pytest.fixture(scope="session")
def other_server(gauges: Path) -> Iterator[ServerProcess]:
    """A second server, which knows nothing of the first one's sessions."""
    with ServerProcess(*QUICK, "--engines-dir", str(gauges)) as process:
        yield process
