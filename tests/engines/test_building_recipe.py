"""A recipe says what the command line says, and nothing else."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, get_args

import pytest

from vedette_engines.building.recipe import PATHS, SECTIONS, read_recipe
from vedette_engines.cli_build import build_command, defaults
from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
[source]
model = "yard:make"
weights = "yard.pt"
input_size = "640x384"
opset = 20

[engine]
name = "yard"
labels = "yard.names"
min_score = 0.4

[input]
mean = [0.485, 0.456, 0.406]

[output]
head = "yolov8"
activated = true

[footage]
calibration = ["clips/monday.mp4", "clips/night.mp4"]
validation = "clips/tuesday.mp4"

[precision]
precision = ["fp16", "int8"]
auto_exclude = true

[gates]
"int8.map50" = 0.95

[tensorrt]
profile = ["1:1:1", "1:8:32"]

[bench]
bench_batch = [1, 8]
"""


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "yard.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, defaults())


def test_a_recipe_gives_the_words_of_the_command_line(tmp_path: Path) -> None:
    words = read(tmp_path, WHOLE)
    assert words["source"] == "yard:make"
    assert (words["input_size"], words["opset"], words["min_score"]) == ("640x384", "20", "0.4")
    assert words["mean"] == "0.485,0.456,0.406"
    assert (words["head"], words["activated"], words["auto_exclude"]) == ("yolov8", True, True)
    assert words["precision"] == "fp16,int8"
    assert words["gate"] == ["int8.map50=0.95"]
    assert words["profile"] == ["1:1:1", "1:8:32"]
    assert words["bench_batch"] == "1,8"


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    words = read(tmp_path, WHOLE)
    assert words["weights"] == tmp_path / "yard.pt"
    assert words["labels"] == tmp_path / "yard.names"
    assert words["calibration"] == [tmp_path / "clips/monday.mp4", tmp_path / "clips/night.mp4"]
    assert words["validation"] == [tmp_path / "clips/tuesday.mp4"]


def test_an_option_that_is_yes_or_no_is_told_from_a_value(tmp_path: Path) -> None:
    parameters = inspect.signature(build_command).parameters.values()
    flags = {entry.name for entry in parameters if "bool" in str(get_args(entry.annotation)[0])}
    assert flags >= {"trust", "unit_length", "activated"}
    for name in flags:
        section = next((section for section, names in SECTIONS.items() if name in names), "output")
        assert read(tmp_path, f"[{section}]\n{name} = true\n")[name] is True


def test_a_source_that_is_a_file_is_relative_to_the_recipe_and_a_module_is_not(tmp_path: Path) -> None:
    assert read(tmp_path, '[source]\nmodel = "m.onnx"')["source"] == str(tmp_path / "m.onnx")
    assert read(tmp_path, '[source]\nmodel = "package.module:make"')["source"] == "package.module:make"


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {**defaults(), "search_path": tmp_path}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sauce]\n", r"\[sauce\] is unknown; allowed: source, engine"),
        ("name = 'x'\n", r"\[name\] is unknown"),
        ("[engine]\nnam = 'x'\n", "engine.nam is unknown; allowed: name, version"),
        ("[engine]\nhead = 'yolox'\n", "engine.head is unknown"),
        ("[source]\nsource = 'x'\n", "source.source is unknown"),
        ("[source]\ntrust = 'yes'\n", "source.trust is 'yes'; allowed is true or false"),
        ("[engine]\nname = true\n", "engine.name is True"),
        ("[engine]\nlabels = ['a', 'b']\n", "allowed is one path"),
        ("[footage]\ncalibration = []\n", "footage.calibration is"),
        ("[footage]\ncalibration = [{a = 1}]\n", "footage.calibration is"),
        ("[engine\n", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_key_value_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ImportInputError, match=says):
        read(tmp_path, text)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match=r"none\.toml: cannot be read"):
        read_recipe(tmp_path / "none.toml", defaults())


def test_every_option_of_the_command_has_its_place_in_a_recipe() -> None:
    named = {name for names in SECTIONS.values() for name in names}
    known = set(defaults()) | {"model"}
    assert named <= known
    assert known - named >= {"gate", "source"}


def test_every_option_that_takes_a_path_is_known_as_one() -> None:
    parameters = inspect.signature(build_command).parameters.values()
    taken = {entry.name for entry in parameters if "Path" in str(get_args(entry.annotation)[0])}
    assert taken - {"recipe"} == PATHS & set(defaults())
