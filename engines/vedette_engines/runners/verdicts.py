"""What would run each of a bundle's files on this machine, and why not; nothing is loaded for it.

So it is a forecast: that a provider of ONNX Runtime really starts, only a session tells, and that a plan loads, only
TensorRT. What does run, a loaded engine says (`LoadedEngine.backend`).
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.cuda.opening import EXTRA, libraries
from vedette_engines.errors import EnginesError
from vedette_engines.manifest import Backend
from vedette_engines.plans.environment import check_plan, find_environment
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.choosing import choose_file
from vedette_engines.runners.providers import CPU, ON_DEVICE, choose_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.opening import Library
    from vedette_engines.manifest import EngineFile
    from vedette_engines.plans.environment import Environment


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What would become of one file here.

    Attributes:
        file: The file.
        backend: What would run it; empty: nothing.
        reason: Why nothing would.
        default: It is the one that is loaded where nothing is said.
    """

    file: EngineFile
    backend: str
    reason: str = ""
    default: bool = False


def installed_providers() -> tuple[str, ...] | None:
    """Tell the providers of the installed ONNX Runtime; None: there is none."""
    try:
        return tuple(importlib.import_module("onnxruntime").get_available_providers())
    except ImportError:
        return None


class Forecaster:
    """Foretells for many bundles; looks at the machine once, and only where it matters.

    Args:
        look: Looks at GPUs, and at TensorRT where it is told to.
        providers: Tells the providers of ONNX Runtime.
        cuda: Tells the CUDA libraries.
    """

    def __init__(
        self,
        look: Callable[..., Environment] = find_environment,
        providers: Callable[[], tuple[str, ...] | None] = installed_providers,
        cuda: Callable[[], Sequence[Library]] = libraries,
    ) -> None:
        self._look = functools.cache(look)
        self._providers = functools.cache(providers)
        self._cuda = functools.cache(cuda)

    def verdicts(self, bundle: Bundle) -> tuple[FileVerdict, ...]:
        """Tell what would become of each of a bundle's files."""
        default = self._default(bundle)
        return tuple(
            FileVerdict(file, *self._judge(file), default=file.path == default) for file in bundle.manifest.files
        )

    def summary(self, bundle: Bundle) -> str:
        """Tell what would run a bundle where nothing is said; `nothing` where loading is refused."""
        backends = (verdict.backend for verdict in self.verdicts(bundle) if verdict.default)
        return next(backends, "") or "nothing"

    def _default(self, bundle: Bundle) -> str:
        """Tell the file that is loaded where nothing is said; empty: loading is refused."""
        plans = any(file.plan is not None for file in bundle.manifest.files)
        try:
            return choose_file(bundle, RunnerSettings(), self._look() if plans else None).file.path
        except EnginesError:
            return ""

    def _judge(self, file: EngineFile) -> tuple[str, str]:
        """Tell what would run a file, and if nothing, why."""
        if file.plan is not None:
            reason = check_plan(file.plan, self._look()) or self._no_cuda()
            return ("", reason) if reason else (f"{file.plan.module}:{self._look().modules[file.plan.module]}", "")
        if file.backend is Backend.TENSORRT:
            return "", "plans are made of it: vedette engine plan"
        available = self._providers()
        if available is None:
            return "", "ONNX Runtime is not installed: pip install 'vedette[cpu]'"
        first = choose_providers(RunnerSettings(), available)[0][0]
        # A build for CUDA names its provider on a machine without a GPU, too.
        on_device = first in ON_DEVICE and bool(self._look(modules=False).gpus)
        return f"onnxruntime:{first if on_device else CPU}", ""

    def _no_cuda(self) -> str:
        found = self._cuda()
        if any(not library.reason for library in found):
            return ""
        return f"{'; '.join(f'{library.name}: {library.reason}' for library in found)}; {EXTRA}"
