"""Read a recipe: the options of `vedette engine build` in a file.

```toml
[source]
model = "yard:make"              # or an ONNX file, a .pt2 program, a TorchScript file
weights = "yard.pt"
input_size = "640x384"

[engine]
name = "yard"
labels = "yard.names"

[output]
head = "yolov8"

[footage]
calibration = ["clips/monday.mp4", "clips/night.mp4"]
validation = ["clips/tuesday.mp4"]

[precision]
precision = ["fp16", "int8"]
auto_exclude = true

[gates]
"int8.map50" = 0.95

[tensorrt]
profile = ["1:8:32"]

[bench]
bench_batch = [1, 8]
```

Each key is the option of that name, its dashes written as underscores. Paths are relative to the recipe's folder.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Which options stand in which section; those of heads that are not named here stand in [output].
SECTIONS: dict[str, tuple[str, ...]] = {
    "source": ("model", "weights", "search_path", "trust", "input_size", "opset", "exporter"),
    "engine": ("name", "version", "labels", "min_score", "iou", "engines_dir"),
    "input": ("order", "scale", "mean", "std", "letterbox", "pad"),
    "output": ("head", "activated", "normalised", "box_format", "max_candidates", "score_floor"),
    "footage": ("calibration", "validation", "frames", "calibration_frames", "validation_frames"),
    "truth": ("truth", "reference"),
    "precision": (
        *("precision", "int8_target", "dynamic", "calibration_method", "percentile", "exclude", "auto_exclude"),
        *("per_layer", "simplify", "optimise"),
    ),
    "gates": (),
    "tensorrt": (
        *("profile", "plan_precision", "target", "workspace", "version_compatible", "hardware_compatibility"),
        *("refit", "strip", "tf32", "timing_cache", "tensorrt"),
    ),
    "bench": ("bench", "bench_batch", "bench_seconds"),
    "build": ("publish", "work", "report"),
}
PATHS = frozenset(
    {
        "weights",
        "search_path",
        "labels",
        "engines_dir",
        "calibration",
        "validation",
        "frames",
        "truth",
        "timing_cache",
        "work",
    }
    | {"report", "priors"}
)
# Yes, no, or not said.
FLAGS = frozenset({"activated", "normalised", "unit_length"})
_RENAMED = {"model": "source"}


def read_recipe(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read a recipe into the words that the command line would give.

    Args:
        path: The file.
        defaults: Every option with its default; its kind tells how a value is read.

    Raises:
        ImportInputError: The file cannot be read, a section or key is unknown, or a value is of the wrong kind.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ImportInputError(f"--recipe {path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ImportInputError(f"--recipe {path}: not TOML: {error}") from error
    words = {**defaults, "search_path": path.parent}
    for section, table in document.items():
        if section not in SECTIONS or not isinstance(table, dict):
            raise ImportInputError(f"{path}: [{section}] is unknown; allowed: {', '.join(SECTIONS)}")
        if section == "gates":
            words["gate"] = [f"{name}={value}" for name, value in table.items()]
            continue
        for key, value in table.items():
            option = _option(path, section, key, defaults)
            words[option] = _word(path, f"{section}.{key}", option, value, defaults[option])
    return words


def _option(path: Path, section: str, key: str, defaults: Mapping[str, Any]) -> str:
    """Find the option that a key names."""
    option = _RENAMED.get(key, key)
    named = {name for names in SECTIONS.values() for name in names}
    of_heads = set(defaults) - named - {"source", "gate", "recipe"}
    allowed = [*SECTIONS[section], *(sorted(of_heads) if section == "output" else ())]
    if key not in allowed or option not in defaults:
        raise ImportInputError(f"{path}: {section}.{key} is unknown; allowed: {', '.join(allowed)}")
    return option


def _word(path: Path, where: str, option: str, value: object, default: object) -> Any:
    """Turn a TOML value into what the command line gives for an option."""
    flag = isinstance(default, bool) or option in FLAGS
    if flag != isinstance(value, bool):
        raise ImportInputError(f"{path}: {where} is {value!r}; allowed is {'true or false' if flag else 'a value'}")
    if flag:
        return value
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise ImportInputError(f"{path}: {where} is {value!r}; allowed are strings and numbers")
    words = [_relative(path, option, str(item)) for item in items]
    if isinstance(default, list):
        return words
    if len(words) > 1 and option in PATHS:
        raise ImportInputError(f"{path}: {where} is {value!r}; allowed is one path")
    return words[0] if option in PATHS else ",".join(map(str, words))


def _relative(path: Path, option: str, word: str) -> Any:
    if option in PATHS:
        return path.parent / Path(word).expanduser()
    if option == "source" and ":" not in word:
        return str(path.parent / Path(word).expanduser())
    return word
