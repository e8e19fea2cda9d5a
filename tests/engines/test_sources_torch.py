"""Models of PyTorch: read without running what is pickled, exported, and run for comparison."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch

import support_torch_models
import support_torch_sources
from vedette_engines.errors import BuildError, ImportInputError, ImportRefusedError, MissingRuntimeError
from vedette_engines.sources.opening import Exported, export_source
from vedette_engines.sources.reference import Reference, open_reference, open_torchscript
from vedette_engines.sources.session import PlainSession
from vedette_engines.sources.spec import SourceSpec

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parent.parent
SIDE = 8
EXAMPLE = torch.zeros(2, 3, SIDE, SIDE)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _source_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # The user's modules are found through search_path alone.
    monkeypatch.delitem(__import__("sys").modules, "user_zoo", raising=False)


def odd(name: str, **options: Any) -> SourceSpec:
    options = {"input_size": (SIDE, SIDE), "search_path": TESTS, **options}
    return SourceSpec(f"support_torch_sources:{name}", **options)


def noise(count: int, side: int = SIDE) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).random((count, 3, side, side), np.float32)


def export(spec: SourceSpec, folder: Path) -> tuple[Exported, list[str]]:
    said: list[str] = []
    return export_source(spec, folder / "out", said.append), said


def refusal(spec: SourceSpec, folder: Path) -> str:
    with pytest.raises(ImportInputError) as caught:
        export_source(spec, folder / "out", lambda _: None)
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / "source.onnx").exists()
    return str(caught.value)


def assert_same(exported: Exported, reference: Reference, count: int = 3, side: int = SIDE) -> list[str]:
    """Check that the file gives what the reference gives, output by output; tell their names."""
    session = PlainSession(exported.onnx)
    frames = noise(count, side)
    for got, wanted in zip(session.run(frames), reference.run(frames), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return session.output_names


def batch_of(path: Path) -> str | int:
    first = onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_param or first.dim_value


def silent(make: Callable[[], Any]) -> Any:
    """Call what torch warns about when it is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def traced(module: torch.nn.Module, path: Path) -> Path:
    silent(lambda: torch.jit.trace(module, (EXAMPLE,), check_trace=False).save(str(path)))
    return path


def program(module: torch.nn.Module, path: Path, *, batch: int = 2, **limits: int) -> Path:
    shapes = ({0: torch.export.Dim("batch", **limits)},) if limits else None
    silent(lambda: torch.export.save(torch.export.export(module, (EXAMPLE[:batch],), dynamic_shapes=shapes), str(path)))
    return path


class Harmful:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.trace, "ran")


def test_a_factory_is_exported_with_an_open_batch_and_agrees_with_eager(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(support_torch_models.tiny_yolo().state_dict(), weights)
    spec = SourceSpec("support_torch_models:tiny_yolo", weights, input_size=(96, 64), search_path=TESTS)

    exported, said = export(spec, tmp_path)

    assert (exported.kind, exported.exporter, exported.opset) == ("module", "dynamo", 18)
    assert batch_of(exported.onnx) == "batch"
    assert [path.name for path in exported.onnx.parent.iterdir()] == ["source.onnx"]
    # A build's name, as in 2.13.0+cpu, is not always part of the package's version.
    assert exported.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert said == ["exported with dynamo, opset 18"]
    reference = open_reference(spec)
    assert reference.name == "PyTorch eager"
    frames = np.random.default_rng(3).random((3, 3, 64, 96), np.float32)
    (wanted,) = reference.run(frames)
    (got,) = PlainSession(exported.onnx).run(frames)
    assert wanted.shape == (3, 7, 126)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    reference.close()
    with pytest.raises(ImportRefusedError, match="closed"):
        reference.run(frames)


def test_a_program_is_exported_and_run_within_its_limits(tmp_path: Path) -> None:
    path = program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", min=2, max=4)

    exported, _ = export(SourceSpec(str(path)), tmp_path)
    reference = open_reference(SourceSpec(str(path)))

    assert (exported.kind, exported.exporter) == ("pt2", "dynamo")
    assert reference.name == "torch.export program"
    for count in (1, 3, 9):
        assert_same(exported, reference, count)
    assert "--input-size is (9, 8)" in refusal(SourceSpec(str(path), input_size=(9, 8)), tmp_path / "again")


def test_a_program_whose_batch_has_no_upper_limit_is_exported(tmp_path: Path) -> None:
    path = program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", min=1)

    exported, _ = export(SourceSpec(str(path)), tmp_path)

    assert batch_of(exported.onnx) != 1
    assert_same(exported, open_reference(SourceSpec(str(path))), 5)


def test_a_program_of_one_frame_is_exported_as_such_and_run_frame_by_frame(tmp_path: Path) -> None:
    spec = SourceSpec(str(program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", batch=1)))

    exported, said = export(spec, tmp_path)

    assert batch_of(exported.onnx) == 1
    assert "the batch is fixed at 1: the model takes one frame at a time" in said
    assert_same(exported, open_reference(spec))
    assert open_torchscript(spec).run(noise(2))[0].shape == (2, 4)


def test_a_program_of_a_fixed_larger_batch_is_refused(tmp_path: Path) -> None:
    path = program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", batch=2)

    assert "its batch is fixed at 2; allowed is 1 or dynamic" in refusal(SourceSpec(str(path)), tmp_path)


def test_a_program_that_was_exported_in_training_mode_is_switched(tmp_path: Path) -> None:
    net = support_torch_sources.Normed()
    spec = SourceSpec(str(program(net.train(), tmp_path / "net.pt2", min=1, max=8)))

    exported, said = export(spec, tmp_path)

    assert any("switched to evaluation: 1 aten.batch_norm.default, 1 aten.dropout.default" in line for line in said)
    (got,) = PlainSession(exported.onnx).run(noise(2))
    np.testing.assert_allclose(got, net.eval()(torch.from_numpy(noise(2))).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_torchscript_goes_through_its_own_exporter(tmp_path: Path) -> None:
    path = traced(support_torch_sources.Normed().eval(), tmp_path / "net.anything")
    spec = SourceSpec(str(path), input_size=(SIDE, SIDE))

    exported, _ = export(spec, tmp_path)

    assert (exported.kind, exported.exporter, batch_of(exported.onnx)) == ("torchscript", "torchscript", "batch")
    reference = open_reference(spec)
    assert reference.name == "TorchScript"
    assert_same(exported, reference)
    assert "give --input-size" in refusal(SourceSpec(str(path)), tmp_path / "again")
    dynamo = SourceSpec(str(path), input_size=(SIDE, SIDE), exporter="dynamo")
    assert "allowed is auto, torchscript" in refusal(dynamo, tmp_path / "again")


def test_scripted_torchscript_with_lists_of_tuples_is_frozen_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.ts"
    silent(lambda: torch.jit.script(support_torch_models.tiny_yolo()).save(str(path)))
    spec = SourceSpec(str(path), input_size=(64, 64))
    capfd.readouterr()

    exported, said = export(spec, tmp_path)

    assert capfd.readouterr() == ("", "")
    assert any("an export failed, torch.onnx (TorchScript): RuntimeError: Couldn't lower" in line for line in said)
    assert_same(exported, open_reference(spec), side=64)


def test_torchscript_that_was_traced_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = traced(support_torch_sources.Normed().train(), tmp_path / "net.pt")

    told = refusal(SourceSpec(str(path), input_size=(SIDE, SIDE)), tmp_path)

    assert "was traced in training mode: aten::batch_norm trains" in told
    assert "call model.eval() before torch.jit.trace()" in told


def test_scripted_torchscript_in_training_mode_is_switched(tmp_path: Path) -> None:
    net = support_torch_sources.Normed().train()
    silent(lambda: torch.jit.script(net).save(str(tmp_path / "net.pt")))

    exported, said = export(SourceSpec(str(tmp_path / "net.pt"), input_size=(SIDE, SIDE)), tmp_path)

    assert "the model was in training mode; eval() was called" in said
    (got,) = PlainSession(exported.onnx).run(noise(2))
    np.testing.assert_allclose(got, net.eval()(torch.from_numpy(noise(2))).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_parts_that_stay_in_training_mode_are_switched_and_told(tmp_path: Path) -> None:
    _, said = export(odd("Stubborn"), tmp_path)

    assert "eval() left norm in training mode; they were switched, too" in said


def test_half_precision_is_made_float32(tmp_path: Path) -> None:
    exported, said = export(odd("half"), tmp_path)

    assert "weights in torch.float16 were made float32" in said
    assert onnx.load(str(exported.onnx)).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert_same(exported, open_reference(odd("half")))


@pytest.mark.parametrize(
    ("name", "names"),
    [("Nested", ["pred_logits", "aux.0.pred_boxes"]), ("Data", ["logits", "boxes"])],
)
def test_nested_answers_are_flattened_in_their_own_order(tmp_path: Path, name: str, names: list[str]) -> None:
    exported, _ = export(odd(name), tmp_path)

    assert assert_same(exported, open_reference(odd(name))) == names
    assert [output.shape for output in open_torchscript(odd(name)).run(noise(3))] == [(3, 4), (3, 4)]


def test_a_choice_by_values_is_kept_by_compiling_the_model(tmp_path: Path) -> None:
    exported, said = export(odd("Branch"), tmp_path)

    assert exported.exporter == "torchscript"
    assert "data-dependent control flow" in said[-2]
    assert "support_torch_sources.py" in said[-2]
    assert "`if y.mean() > 0.3:`" in said[-2]
    session, reference = PlainSession(exported.onnx), open_reference(odd("Branch"))
    answers = []
    for frames in (np.zeros((2, 3, SIDE, SIDE), np.float32), np.ones((2, 3, SIDE, SIDE), np.float32)):
        (got,), (wanted,) = session.run(frames), reference.run(frames)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        answers.append(float(wanted.mean()))
    assert answers[0] < -0.5 < 0.5 < answers[1], "the two pictures must take different ways"


def test_when_all_ways_fail_each_is_explained_with_its_line(tmp_path: Path) -> None:
    told = refusal(odd("Hopeless"), tmp_path)

    assert "torch.onnx (dynamo): what it computes next depends on values" in told
    assert "torch.onnx (TorchScript) of the scripted model: " in told
    assert told.count("support_torch_sources.py:") == 2
    assert "torch.where" in told


def test_an_unsupported_operator_is_named_with_its_line(tmp_path: Path) -> None:
    told = refusal(odd("Unsupported"), tmp_path)
    lone = refusal(odd("Unsupported", exporter="dynamo"), tmp_path)
    path = traced(support_torch_sources.Unsupported().eval(), tmp_path / "net.pt")
    script = refusal(SourceSpec(str(path), input_size=(SIDE, SIDE)), tmp_path)

    assert "unsupported operator" in told
    assert "operator aten.linalg_eig, at " in told
    assert "operator aten::linalg_eigvals" in told
    assert "`return torch.linalg.eigvals(self.conv(x).mean(1)).real`" in told
    assert "TorchScript" not in lone
    assert "operator aten::linalg_eigvals, at " in script
    assert "support_torch_sources.py:" in script


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("Types", ["type mismatch", "`return torch.matmul(y, y.transpose(1, 2).double())`", "to float32"]),
        ("Counting", ["gives two answers for one picture"]),
        ("Together", ["depends on the others of its batch"]),
        ("Selected", ["does not start with the batch", "leave NMS"]),
        ("Two", ["does not take one picture", "missing 1 required positional argument"]),
        ("Grey", ["shapes do not fit", "to have 1 channels"]),
        ("Words", ["gives a str without tensors"]),
        ("broken", ["the factory fails", '`return Base(int("four"))']),
        ("number", ["gives a int; wanted is a torch.nn.Module"]),
        ("nothing", ["has no attribute 'nothing'"]),
    ],
)
def test_a_model_that_cannot_be_taken_in_is_refused_in_words(tmp_path: Path, name: str, reasons: list[str]) -> None:
    told = refusal(odd(name), tmp_path)

    assert [reason for reason in reasons if reason not in told] == [], told


def test_a_model_that_writes_into_its_input_is_exported_and_spoils_no_frames(tmp_path: Path) -> None:
    exported, _ = export(odd("Mutating"), tmp_path)
    reference = open_reference(odd("Mutating"))
    frames = noise(2)
    before = frames.copy()

    assert_same(exported, reference)
    reference.run(frames)

    np.testing.assert_array_equal(frames, before)


def test_a_model_of_one_frame_is_exported_as_such(tmp_path: Path) -> None:
    exported, said = export(odd("Lone"), tmp_path)

    assert batch_of(exported.onnx) == 1
    assert "the batch is fixed at 1: the model takes one frame at a time" in said
    assert_same(exported, open_reference(odd("Lone")))


def test_a_module_may_stand_ready_and_needs_its_size(tmp_path: Path) -> None:
    exported, said = export(odd("ready", exporter="torchscript", opset=20), tmp_path)

    assert (exported.exporter, exported.opset) == ("torchscript", 20)
    assert "no --weights were given: the model is exported as the factory made it" in said
    assert "give --input-size WxH" in refusal(odd("ready", input_size=None), tmp_path / "again")


def test_a_users_module_is_found_in_the_search_path_only(tmp_path: Path) -> None:
    (tmp_path / "user_zoo.py").write_text("from support_torch_sources import Base\n\ndef make():\n    return Base()\n")
    spec = SourceSpec("user_zoo:make", input_size=(SIDE, SIDE), search_path=tmp_path)

    export(spec, tmp_path)

    assert str(tmp_path) not in __import__("sys").path
    elsewhere = SourceSpec("other_zoo:make", input_size=(SIDE, SIDE), search_path=tmp_path)
    assert "there is no module other_zoo" in refusal(elsewhere, tmp_path / "again")


def test_wrapped_and_prefixed_weights_are_unwrapped_and_told(tmp_path: Path) -> None:
    net = support_torch_sources.Base()
    state = {f"module.{name}": tensor + 1 for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "weights.pt")
    spec = odd("Base", weights=tmp_path / "weights.pt")

    _, said = export(spec, tmp_path)

    assert "the weights were taken from 'state_dict' of the checkpoint" in said
    assert "the prefix 'module.' was taken off the weights' names" in said
    assert not np.allclose(open_reference(spec).run(noise(1))[0], net(torch.from_numpy(noise(1))).detach().numpy())


def test_weights_that_do_not_fit_are_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"conv.weight": torch.zeros(4, 3, 1, 1), "head.bias": torch.zeros(1)}, path)
    told = refusal(odd("Base", weights=path), tmp_path)

    assert "1 missing: conv.bias" in told
    assert "1 unexpected: head.bias" in told
    assert "1 of another shape: conv.weight is [4, 3, 1, 1], the model's [4, 3, 3, 3]" in told


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3}, "is no state dict: it holds a dictionary of epoch"),
        ([1, 2], "is no state dict: it holds a list"),
    ],
)
def test_weights_that_are_no_state_dict_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    torch.save(content, tmp_path / "weights.pt")

    assert reason in refusal(odd("Base", weights=tmp_path / "weights.pt"), tmp_path)


def test_a_state_dict_as_source_and_a_model_as_weights_are_told_how_to_give_them(tmp_path: Path) -> None:
    torch.save(support_torch_sources.Base().state_dict(), tmp_path / "weights.pt")
    torch.save(support_torch_sources.Base().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    script = traced(support_torch_sources.Base().eval(), tmp_path / "script.pt")

    for name in ("weights.pt", "old.pth"):
        told = refusal(SourceSpec(str(tmp_path / name)), tmp_path)
        assert f"{name}: is a state dict; give module:factory and --weights" in told
    assert "is a whole model (torchscript): give it as SOURCE" in refusal(odd("Base", weights=script), tmp_path)


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    torch.save(support_torch_sources.Base().state_dict(), tmp_path / "weights.pt")
    whole = (tmp_path / "weights.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1})[:-3])

    assert "damaged archive" in refusal(odd("Base", weights=tmp_path / "cut.pt"), tmp_path)
    assert "refused without --trust" in refusal(odd("Base", weights=tmp_path / "old.pt"), tmp_path)


def test_safetensors_are_read_where_the_library_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)

    with pytest.raises(MissingRuntimeError, match="pip install safetensors"):
        export(odd("Base", weights=path), tmp_path)
    assert "is a state dict; give module:factory" in refusal(SourceSpec(str(path)), tmp_path)


def test_a_pickled_model_is_refused_without_trust_and_taken_with_it(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": support_torch_sources.Base()}, tmp_path / "net.pt")
    spec = SourceSpec(str(tmp_path / "net.pt"), input_size=(SIDE, SIDE))

    told = refusal(spec, tmp_path)
    exported, said = export(SourceSpec(spec.source, trust=True, input_size=(SIDE, SIDE)), tmp_path)

    assert "is a pickled whole module" in told
    assert "support_torch_sources.Base" in told
    assert "refused without --trust" in told
    assert "the model was taken from 'model' of the checkpoint" in said
    assert exported.kind == "module"


@pytest.mark.parametrize("form", ["zip", "old", "bare"])
@pytest.mark.parametrize("place", ["source", "weights"])
def test_nothing_in_a_pickle_runs_without_trust(tmp_path: Path, form: str, place: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "net.pt"
    content = {"state_dict": {"conv.weight": Harmful(trace)}}
    if form == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    size = (SIDE, SIDE)
    spec = SourceSpec(str(path), input_size=size) if place == "source" else odd("Base", weights=path)

    told = refusal(spec, tmp_path)

    assert "refused without --trust" in told
    assert not trace.exists()
    if form == "zip":
        torch.load(path, weights_only=False)
        assert trace.exists(), "the pickle must be able to do harm, or this shows nothing"


def tampered(path: Path, change: Callable[[str, bytes], bytes], added: dict[str, bytes] | None = None) -> Path:
    """Copy an archive, changing its members; names are given without the folder they stand in."""
    target = path.with_name(f"tampered-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, change(name.partition("/")[2], source.read(name)))
        folder = source.namelist()[0].partition("/")[0]
        for name, content in (added or {}).items():
            copy.writestr(f"{folder}/{name}", content)
    return target


def in_model(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        assert name != "models/model.json" or old in content
        return content.replace(old, new) if name == "models/model.json" else content

    return change


def test_nothing_in_a_program_runs_without_trust(tmp_path: Path) -> None:
    path = program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", min=1, max=4)
    trace = tmp_path / "trace"
    torch.save((Harmful(trace),), tmp_path / "harm")
    harm = (tmp_path / "harm").read_bytes()
    pickled = tampered(path, lambda name, content: harm if name == "data/sample_inputs/model.pt" else content)
    called = tampered(path.rename(tmp_path / "a.pt2"), in_model(b"torch.ops.aten.conv2d.default", b"torch.os.system"))
    evil = f"__import__('pathlib').Path({str(trace)!r}).touch()".encode()
    size = tampered(tmp_path / "a.pt2", in_model(b"Symbol('", b"(" + evil + b" or 1) + Symbol('"))
    size = size.rename(tmp_path / "size.pt2")
    named = tampered(tmp_path / "a.pt2", in_model(b"Symbol('s", b"Symbol('exit() or s")).rename(tmp_path / "named.pt2")
    compiled = tampered(
        tmp_path / "a.pt2", lambda _, content: content, {"data/aotinductor/model/run.so": b"\x7fELF"}
    ).rename(tmp_path / "compiled.pt2")
    opaque = tampered(
        tmp_path / "a.pt2",
        lambda name, content: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
    )

    expected = {
        pickled: "pickle with more than tensors",
        called: "calls 'torch.os.system'",
        size: "has the size",
        named: "has the size",
        compiled: "run.so is nothing that torch.export writes",
        opaque: "is pickled",
    }
    for file, reason in expected.items():
        told = refusal(SourceSpec(str(file)), tmp_path)
        assert "reading it could run code" in told, file
        assert reason in told
    assert not trace.exists()


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_unread(tmp_path: Path) -> None:
    path = program(support_torch_sources.Base().eval(), tmp_path / "net.pt2", min=1, max=4)
    packed = tmp_path / "packed.pt2"
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as taken:
        folder = given.namelist()[0].partition("/")[0]
        for name in given.namelist():
            taken.writestr(name, given.read(name))
        taken.writestr(f"{folder}/data/weights/bomb.json", b" " * 50_000_000)

    told = refusal(SourceSpec(str(packed)), tmp_path)
    assert "unpacks to 50" in told
    assert "refused without --trust" in told


def test_pytorch_that_is_missing_is_told_with_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)

    for ask in (lambda: export(odd("Base"), tmp_path), lambda: open_reference(odd("Base"))):
        with pytest.raises(MissingRuntimeError, match=r"onnxscript is not installed.*vedette\[export\]"):
            ask()


def test_a_model_too_large_for_one_file_is_refused_before_it_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette_engines.sources.exporting.MAX_MODEL_BYTES", 100)

    assert "bytes of weights; allowed is 100" in refusal(odd("Base"), tmp_path)


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_model: Any, _example: Any, target: str, **_: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.onnx.export", full)

    with pytest.raises(BuildError, match=r"source\.onnx: cannot be written: .*No space left on device"):
        export(odd("Base"), tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_exporting_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refusal(odd("Hopeless"), tmp_path)
    refusal(odd("Unsupported"), tmp_path)
    export(odd("Lone"), tmp_path)

    assert capfd.readouterr() == ("", "")
