"""What a file is, and what an export depends on: neither needs PyTorch."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support_models import yolov8
from vedette_engines.bundle import sha256_of
from vedette_engines.errors import BuildError, ImportInputError, ImportRefusedError
from vedette_engines.sources.kinds import Kind, kind_of
from vedette_engines.sources.opening import export_source
from vedette_engines.sources.reference import open_reference, open_torchscript
from vedette_engines.sources.spec import SourceSpec, content_digest, source_digest


def small_model() -> onnx.ModelProto:
    """Write a model `[N, 3, 4, 6]` to `[N, 3]` with a weight that can be kept outside."""
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "weight")
    nodes = [
        helper.make_node("Mul", ["images", "weight"], ["doubled"]),
        helper.make_node("ReduceMean", ["doubled", "axes"], ["output"], keepdims=0),
    ]
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 4, 6])
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "small", [given], [result], [weight, axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def saved(folder: Path, name: str = "model.onnx", **options: object) -> Path:
    onnx.save(small_model(), str(folder / name), **options)
    return folder / name


def refusal(spec: SourceSpec, folder: Path) -> str:
    with pytest.raises(ImportInputError) as caught:
        export_source(spec, folder / "out", lambda _: None)
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / "source.onnx").exists()
    return str(caught.value)


def archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, b"{}")
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"import torch\n", "is a text file"),
        (b"<!DOCTYPE html><html>404</html>", "a download that failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer.*git lfs pull"),
        (b"ftrt\x00\x00\x01", "TensorRT plan"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1c\x00\x00\x00TFL3\x00", "TensorFlow Lite"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04 and then nothing", "damaged archive"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "no model that is known"),
    ],
)
def test_what_is_no_model_is_told_by_its_content_whatever_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(ImportInputError, match=reason):
        kind_of(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match=r"no such file; allowed is an ONNX file"):
        kind_of(tmp_path / "model.onnx")
    with pytest.raises(ImportInputError, match="is a folder"):
        kind_of(tmp_path)


def test_archives_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    assert kind_of(archive(tmp_path / "a.onnx", "m/models/model.json", "m/archive_format")) is Kind.PROGRAM
    assert kind_of(archive(tmp_path / "b", "m/constants.pkl", "m/code/a.py", "m/data.pkl")) is Kind.TORCHSCRIPT
    assert kind_of(archive(tmp_path / "c.pt2", "m/data.pkl", "m/data/0")) is Kind.PICKLE
    with pytest.raises(ImportInputError, match="none that PyTorch writes"):
        kind_of(archive(tmp_path / "d.pt", "config.json", "weights.h5"))


def test_a_file_that_begins_like_onnx_and_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07" + bytes(range(128, 256)))

    assert "not an ONNX file" in refusal(SourceSpec(str(path)), tmp_path)


def test_an_onnx_file_is_copied_and_told_with_its_hash(tmp_path: Path) -> None:
    path = saved(tmp_path)

    exported = export_source(SourceSpec(str(path)), tmp_path / "out", lambda _: None)

    assert exported.onnx.read_bytes() == path.read_bytes()
    assert exported.sha256 == sha256_of(path) == content_digest(SourceSpec(str(path)))
    assert (exported.kind, exported.exporter, exported.opset) == ("onnx", "none", 18)
    assert exported.versions == {"onnx": onnx.__version__}


def test_weights_beside_an_onnx_file_are_taken_into_the_copy_and_the_hash(tmp_path: Path) -> None:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    spec = SourceSpec(str(saved(tmp_path, **options)))

    exported = export_source(spec, tmp_path / "out", lambda _: None)
    before = source_digest(spec)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)

    assert [path.name for path in exported.onnx.parent.iterdir()] == ["source.onnx"]
    taken, wanted = onnx.load(str(exported.onnx)).graph.initializer, small_model().graph.initializer
    assert [numpy_helper.to_array(one).tolist() for one in taken] == [
        numpy_helper.to_array(one).tolist() for one in wanted
    ]
    assert source_digest(spec) != before
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin, which is not beside it" in refusal(spec, tmp_path / "again")


def test_weights_from_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())

    assert "'../secret.bin'; allowed is a file beside it" in refusal(SourceSpec(str(path)), tmp_path)


def test_a_model_of_more_than_one_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette_engines.sources.onnx_file.MAX_MODEL_BYTES", 100)

    assert "the most that one ONNX file can hold" in refusal(SourceSpec(str(saved(tmp_path))), tmp_path)


def test_a_source_is_never_overwritten_by_its_own_copy(tmp_path: Path) -> None:
    path = saved(tmp_path, "source.onnx")

    with pytest.raises(ImportInputError, match="choose another folder"):
        export_source(SourceSpec(str(path)), tmp_path, lambda _: None)
    assert path.read_bytes() == small_model().SerializeToString()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")

    with pytest.raises(BuildError, match=r"out/source\.onnx: cannot be written"):
        export_source(SourceSpec(str(saved(tmp_path))), tmp_path / "out", lambda _: None)


def test_the_reference_of_an_onnx_file_is_onnx_runtime_on_the_file_as_it_came(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).random((3, 3, 4, 6), np.float32)
    reference = open_reference(SourceSpec(str(saved(tmp_path))))

    (output,) = reference.run(frames)

    np.testing.assert_allclose(output, 2 * frames.mean((2, 3)), rtol=1e-6)
    reference.close()
    reference.close()
    with pytest.raises(ImportRefusedError, match="is closed"):
        reference.run(frames)


def test_the_reference_runs_a_model_with_a_fixed_batch_frame_by_frame(tmp_path: Path) -> None:
    model = small_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "one.onnx"
    onnx.save(model, str(path))
    frames = np.random.default_rng(1).random((3, 3, 4, 6), np.float32)

    (output,) = open_reference(SourceSpec(str(path))).run(frames)

    np.testing.assert_allclose(output, 2 * frames.mean((2, 3)), rtol=1e-6)


def test_the_reference_refuses_a_model_that_takes_no_picture(tmp_path: Path) -> None:
    model = small_model()
    del model.graph.input[0].type.tensor_type.shape.dim[0]
    path = tmp_path / "flat.onnx"
    onnx.save(model, str(path))

    with pytest.raises(ImportInputError, match=r"allowed is one picture|cannot load it"):
        open_reference(SourceSpec(str(path)))


def test_an_onnx_file_has_no_torchscript(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match="has no TorchScript"):
        open_torchscript(SourceSpec(str(saved(tmp_path))))


def test_options_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = str(saved(tmp_path))

    assert "--opset is 13; allowed is 18 to 20" in refusal(SourceSpec(path, opset=13), tmp_path)
    assert "--weights goes with module:factory only" in refusal(SourceSpec(path, weights=Path(path)), tmp_path)
    assert "--input-size is (0, 4)" in refusal(SourceSpec(path, input_size=(0, 4)), tmp_path)
    told = refusal(SourceSpec("/somewhere/net.py:make"), tmp_path)
    assert "give the module, not its file: net:make with --search-path /somewhere" in told
    assert "there is no module nothing_here" in refusal(SourceSpec("nothing_here:make"), tmp_path)
    missing = SourceSpec("nothing_here:make", weights=tmp_path / "none.pt")
    assert "--weights" in refusal(missing, tmp_path)
    assert "no such file" in refusal(missing, tmp_path)


def test_the_hash_of_a_factory_covers_its_file_its_neighbours_its_weights_and_the_options(tmp_path: Path) -> None:
    package = tmp_path / "zoo"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("from .parts import block\nraise RuntimeError('never run')\n")
    (package / "parts.py").write_text("import json\n")
    (package / "other.py").write_text("")
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"1")
    spec = SourceSpec("zoo.net:make", weights=weights, input_size=(8, 8), search_path=tmp_path)
    seen = {source_digest(spec)}

    def changes() -> bool:
        before = len(seen)
        seen.add(source_digest(spec))
        return len(seen) > before

    assert not changes()
    (package / "other.py").write_text("anything")
    assert not changes()
    (package / "parts.py").write_text("import os\n")
    assert changes()
    (package / "net.py").write_text("from . import parts\n")
    assert changes()
    (package / "__init__.py").write_text("x = 1\n")
    assert changes()
    weights.write_bytes(b"2")
    assert changes()
    others = [replace(spec, opset=19), replace(spec, input_size=(8, 16)), replace(spec, exporter="dynamo")]
    others += [replace(spec, weights=None), replace(spec, source="zoo.net:other")]
    assert len(seen | {source_digest(other) for other in others}) == len(seen) + len(others)
    assert source_digest(replace(spec, trust=True)) in seen


def test_the_hash_of_an_onnx_file_does_not_depend_on_where_it_lies_or_on_options_of_the_export(tmp_path: Path) -> None:
    one = tmp_path / "one.onnx"
    one.write_bytes(yolov8().SerializeToString())
    (tmp_path / "two.onnx").write_bytes(one.read_bytes())

    assert source_digest(SourceSpec(str(one))) == source_digest(SourceSpec(str(tmp_path / "two.onnx"), opset=20))
