"""Load a model of PyTorch, ready to run on the CPU in evaluation mode.

Whatever is assumed or changed on the way (a wrapper taken off, half precision made float32, a mode switched) is noted.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vedette_engines.errors import ImportInputError
from vedette_engines.sources.archives import check_program
from vedette_engines.sources.explaining import reason
from vedette_engines.sources.kinds import Kind
from vedette_engines.sources.modes import quiet_modes, script_in_training
from vedette_engines.sources.program import evaluation_mode, program_border
from vedette_engines.sources.quiet import quiet
from vedette_engines.sources.spec import SourceSpec, check_spec
from vedette_engines.sources.weights import is_state_dict, put_weights, read_pickle, read_weights, unsafe_names

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "module"
_HALVES = (torch.float16, torch.bfloat16, torch.float64)


@dataclass(slots=True)
class TorchModel:
    """A model of PyTorch.

    Attributes:
        what: How messages call it.
        kind: `pt2`, `torchscript` or `module`.
        call: Takes `[N, 3, height, width]` and gives the model's answer.
        model: The module; of a program the module that it unfolds to.
        width: Input width in pixels.
        height: Input height in pixels.
        program: The exported program, where the source is one.
        dtype: Element type of the input.
        batches: Smallest and largest batch it takes; None: no limit.
        notes: What was assumed or changed.
    """

    what: str
    kind: str
    call: Callable[[Any], Any]
    model: Any
    width: int
    height: int
    program: Any = None
    dtype: Any = torch.float32
    batches: tuple[int, int | None] = (1, None)
    notes: list[str] = field(default_factory=list)


def open_model(spec: SourceSpec) -> TorchModel:
    """Load a source of PyTorch.

    Raises:
        ImportInputError: It is none, it would run pickled code, or it lacks what only the user can tell.
    """
    kind = check_spec(spec)
    if kind is None:
        return _from_factory(spec)
    path = Path(spec.source)
    match kind:
        case Kind.PROGRAM:
            return _from_program(spec, path)
        case Kind.TORCHSCRIPT:
            return _from_torchscript(spec, path)
        case Kind.PICKLE:
            return _from_pickle(spec, path)
        case Kind.SAFETENSORS:
            raise ImportInputError(f"{path}: is a state dict; give module:factory and --weights {path}")
        case Kind.ONNX:
            raise ImportInputError(f"{path}: is an ONNX file, not a model of PyTorch")


def _size(spec: SourceSpec) -> tuple[int, int]:
    if spec.input_size is None:
        raise ImportInputError(f"{spec.source}: does not tell its input size; give --input-size WxH")
    return spec.input_size


def _from_factory(spec: SourceSpec) -> TorchModel:
    width, height = _size(spec)
    notes: list[str] = []
    model = _made(spec)
    if spec.weights is not None:
        put_weights(model, read_weights(spec.weights, spec.trust, notes), spec.weights, notes)
    else:
        notes.append("no --weights were given: the model is exported as the factory made it")
    return _module(spec.source, model, (width, height), notes)


def _made(spec: SourceSpec) -> Any:
    """Import the module and call its factory; the search path is put back afterwards.

    Weights that it draws are the same each time: the model that is exported is the one that is compared with.
    """
    module_name, _, way = spec.source.partition(":")
    before = list(sys.path)
    sys.path.insert(0, str(spec.root))
    importlib.invalidate_caches()
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made: Any = importlib.import_module(module_name)
            for name in way.split("."):
                made = getattr(made, name)
            if not isinstance(made, torch.nn.Module):
                made = made()
    except ModuleNotFoundError as error:
        raise ImportInputError(f"{spec.source}: there is no module {error.name!r} (looked in {spec.root})") from error
    except AttributeError as error:
        raise ImportInputError(f"{spec.source}: {error}") from error
    except Exception as error:  # the user's code
        raise ImportInputError(f"{spec.source}: the factory fails: {reason(error)}") from error
    finally:
        sys.path[:] = before
    if not isinstance(made, torch.nn.Module):
        raise ImportInputError(f"{spec.source}: gives a {type(made).__name__}; wanted is a torch.nn.Module")
    return made


def _module(what: str, model: Any, size: tuple[int, int], notes: list[str]) -> TorchModel:
    model = model.cpu()
    other = sorted({str(value.dtype) for value in model.state_dict().values() if value.dtype in _HALVES})
    if other:
        model = model.float()
        notes.append(f"weights in {', '.join(other)} were made float32")
    quiet_modes(model, notes)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return TorchModel(what, MODULE, model, model, *size, notes=notes)


def _from_pickle(spec: SourceSpec, path: Path) -> TorchModel:
    """Tell a state dict from a whole model; the second needs trust."""
    if not spec.trust and (names := unsafe_names(path)):
        raise ImportInputError(
            f"{path}: is a pickled whole module (it would run {', '.join(names[:3])}): refused without --trust; "
            "save its state_dict() and give module:factory with --weights"
        )
    value = read_pickle(path, spec.trust)
    if is_state_dict(value):
        raise ImportInputError(f"{path}: is a state dict; give module:factory and --weights {path}")
    notes = [f"{path.name} was unpickled, which runs what is in it"]
    if isinstance(value, dict):
        key = next((key for key in ("ema", "model", "module") if isinstance(value.get(key), torch.nn.Module)), "")
        if key:
            notes.append(f"the model was taken from {key!r} of the checkpoint")
            value = value[key]
    if not isinstance(value, torch.nn.Module):
        raise ImportInputError(
            f"{path}: holds a {type(value).__name__}, not a model; give module:factory and --weights"
        )
    return _module(str(path), value, _size(spec), notes)


def _from_program(spec: SourceSpec, path: Path) -> TorchModel:
    if not spec.trust:
        check_program(path)
    try:
        with path.open("rb") as stream, quiet():
            program = torch.export.load(stream)
    except Exception as error:  # torch raises whatever its parts do
        raise ImportInputError(f"{path}: torch {torch.__version__} cannot read it: {reason(error)}") from error
    notes: list[str] = []
    border = program_border(program, str(path))
    if spec.input_size not in {None, (border.width, border.height)}:
        raise ImportInputError(
            f"--input-size is {spec.input_size}, but {path} was exported for {border.width}x{border.height} only"
        )
    evaluation_mode(program, str(path), notes)
    module = program.module()
    model = TorchModel(str(path), str(Kind.PROGRAM), module, module, border.width, border.height, program, notes=notes)
    model.dtype, model.batches = border.dtype, border.batches
    return model


def _from_torchscript(spec: SourceSpec, path: Path) -> TorchModel:
    width, height = _size(spec)
    notes: list[str] = []
    try:
        with quiet():
            model = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise ImportInputError(f"{path}: torch {torch.__version__} cannot read it: {reason(error)}") from error
    quiet_modes(model, notes)
    script_in_training(model, str(path))
    dtypes = {value.dtype for value in model.state_dict().values() if value.is_floating_point()}
    if dtypes and not dtypes & {torch.float32}:
        model = model.float()
        notes.append(f"weights in {', '.join(sorted(map(str, dtypes)))} were made float32")
    return TorchModel(str(path), str(Kind.TORCHSCRIPT), model, model, width, height, notes=notes)
