from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx
import pytest

from support_bundles import toy_bundle, toy_manifest, toy_model
from vedette_engines.bundle import load_bundle, sha256_of, write_bundle
from vedette_engines.errors import BundleError, ManifestError
from vedette_engines.manifest import Backend, DetectorOutput, EngineFile, InputSpec, Precision

if TYPE_CHECKING:
    from pathlib import Path


def test_a_published_engine_is_loaded_with_its_hash_and_size_filled_in(tmp_path: Path) -> None:
    toy_bundle(tmp_path)

    bundle = load_bundle(tmp_path / "toy" / "1")

    (file,) = bundle.manifest.files
    assert file.sha256 == sha256_of(bundle.path_of(file))
    assert file.size_bytes == bundle.path_of(file).stat().st_size
    assert (bundle.name, bundle.version) == ("toy", "1")


def test_publishing_leaves_nothing_but_the_bundle_and_a_line_of_history(tmp_path: Path) -> None:
    toy_bundle(tmp_path)

    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "toy",
        "toy/.history.jsonl",
        "toy/1",
        "toy/1/engine.toml",
        "toy/1/model.onnx",
    ]


def test_an_existing_version_is_not_overwritten(tmp_path: Path) -> None:
    before = toy_bundle(tmp_path)

    with pytest.raises(BundleError, match=r"toy 1 exists already in .*; choose a new version"):
        toy_bundle(tmp_path, labels=("another",))

    assert load_bundle(before.path) == before


def test_a_model_that_breaks_the_contract_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="wanted"):
        toy_bundle(tmp_path, output=DetectorOutput(99, 0.1))

    assert list(tmp_path.rglob("*.onnx")) == []
    assert list(tmp_path.glob(".*")) == []


def test_files_that_the_manifest_does_not_name_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"files are \['other\.onnx'\], but the manifest has \['model\.onnx'\]"):
        write_bundle(tmp_path, toy_manifest(), {"other.onnx": b"x"})


def test_a_file_is_copied_from_where_it_is(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere.onnx"
    source.write_bytes(toy_model().SerializeToString())

    bundle = write_bundle(tmp_path / "root", toy_manifest(), {"model.onnx": source})

    assert bundle.path_of(bundle.manifest.files[0]).read_bytes() == source.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BundleError, match="cannot be written"):
        toy_bundle(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no engine\.toml"):
        load_bundle(tmp_path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    path = bundle.path / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(BundleError, match=r"model\.onnx has the sha256 \w+, but engine\.toml says"):
        load_bundle(bundle.path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    path = bundle.path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(BundleError, match=r"model\.onnx has \d+ bytes, but engine\.toml says \d+"):
        load_bundle(bundle.path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    (bundle.path / "model.onnx").unlink()

    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        load_bundle(bundle.path)


def test_a_bundle_in_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    moved = bundle.path.rename(bundle.path.with_name("2"))

    with pytest.raises(BundleError, match="says toy/1, but the folder is toy/2"):
        load_bundle(moved)


def test_a_wrong_manifest_keeps_its_kind_and_gains_the_folder(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    path = bundle.path / "engine.toml"
    path.write_text(path.read_text().replace("pad = 114", "pad = 999"))

    with pytest.raises(ManifestError, match=r"toy/1: input\.pad is 999"):
        load_bundle(bundle.path)


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    (bundle.path / "engine.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(BundleError, match="is not UTF-8"):
        load_bundle(bundle.path)


def _float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _renamed_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "output"


def _second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["N"]))


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("size", onnx.TensorProto.INT64, [2]))


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _channels_first(model: onnx.ModelProto) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[1].dim_value, shape.dim[3].dim_value = 3, 6


def _weight_elsewhere(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_float_input, r"model\.onnx: input frames is FLOAT; wanted: UINT8"),
        (_renamed_output, "outputs are output; wanted is one, named candidates"),
        (_second_output, "outputs are candidates, more; wanted is one, named candidates"),
        (_second_input, "inputs are frames, size; wanted is one, named frames"),
        (_fixed_batch, r"input frames is \[2, 4, 6, 3\]; wanted: \[N, 4, 6, 3\]"),
        (_channels_first, r"input frames is \[N, 3, 6, 6\]; wanted: \[N, 4, 6, 3\]"),
        (_weight_elsewhere, "is in another file; all must be in one"),
    ],
)
def test_a_model_that_does_not_obey_the_contract_is_refused(tmp_path: Path, spoil: object, says: str) -> None:
    model = toy_model()
    spoil(model)  # type: ignore[operator]

    with pytest.raises(BundleError, match=says):
        toy_bundle(tmp_path, model=model)


def test_extras_widen_the_rows(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"output candidates is \[N, 3, 6\]; wanted: \[N, 3, 7\]"):
        toy_bundle(tmp_path, output=DetectorOutput(3, 0.1, ("angle",)))


def test_another_input_size_than_the_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"wanted: \[N, 8, 6, 3\]"):
        toy_bundle(tmp_path, input=InputSpec(6, 8))


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx is not an ONNX model"):
        write_bundle(tmp_path, toy_manifest(), {"model.onnx": b"\x08garbage" * 9})


def test_a_fixed_batch_is_taken_where_the_manifest_says_so(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path, model=toy_model(batch=4), files=(EngineFile("model.onnx", batch=4),))

    assert bundle.manifest.files[0].batch == 4


def test_the_most_exact_file_of_a_backend_is_chosen_unless_one_is_named(tmp_path: Path) -> None:
    exact, small = EngineFile("a.onnx"), EngineFile("b.onnx", precision=Precision.INT8)
    bundle = toy_bundle(tmp_path, files=(small, exact))

    assert bundle.file_for(Backend.ONNXRUNTIME).path == "a.onnx"
    assert bundle.file_for(Backend.ONNXRUNTIME, Precision.INT8).path == "b.onnx"
    with pytest.raises(BundleError, match="no file for onnxruntime/fp16; it has onnxruntime/int8, onnxruntime/fp32"):
        bundle.file_for(Backend.ONNXRUNTIME, Precision.FP16)
    with pytest.raises(BundleError, match="no file for tensorrt"):
        bundle.file_for(Backend.TENSORRT)


def test_two_files_may_share_their_bytes(tmp_path: Path) -> None:
    file = EngineFile("model.onnx")
    bundle = toy_bundle(tmp_path, files=(file, replace(file, backend=Backend.TENSORRT)))

    assert {entry.sha256 for entry in bundle.manifest.files} == {sha256_of(bundle.path / "model.onnx")}
