"""Publish a boxed engine from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.bundle import write_bundle

if TYPE_CHECKING:
    from onnx import ModelProto

    from vedette_engines.manifest import Manifest


def publish(manifest: Manifest, model: ModelProto) -> None:
    """Write the bundle below the folder that the command line names.

    Raises:
        BundleError: The version exists there already, or the model does not obey the contract.
    """
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m vedette_engines.making.{manifest.name} OUT")
    contents = {"model.onnx": model.SerializeToString(deterministic=True)}
    # What comes in the box has its history in the repository of the source.
    bundle = write_bundle(Path(sys.argv[1]), manifest, contents, recorded=False)
    sys.stdout.write(f"{bundle.path}\n")
