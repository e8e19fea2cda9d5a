"""Servers and engines that the end-to-end tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support_serving import ASSETS, ServerProcess
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
