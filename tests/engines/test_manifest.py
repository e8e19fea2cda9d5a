from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_bundles import toy_manifest
from vedette_engines.errors import ManifestError
from vedette_engines.manifest import (
    Backend,
    Bench,
    ClassifierOutput,
    Defaults,
    DetectorOutput,
    EmbedderOutput,
    EngineFile,
    InputSpec,
    Manifest,
    Placement,
    Precision,
    Task,
    check_manifest,
)
from vedette_engines.manifest_file import read_manifest, write_manifest

SHA = "ab" * 32

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
files = st.builds(
    EngineFile,
    path=st.just("model.onnx"),
    backend=st.sampled_from((Backend.ONNXRUNTIME, Backend.TENSORRT)),
    precision=st.sampled_from(Precision),
    sha256=st.just(SHA),
    size_bytes=st.integers(1, 1 << 40),
    max_batch=st.none() | st.integers(1, 64),
) | st.builds(EngineFile, path=st.just("m"), sha256=st.just(SHA), size_bytes=st.just(9), batch=st.integers(1, 64))
labels = st.lists(texts, min_size=1, max_size=5, unique=True).map(tuple)
manifests = st.builds(
    Manifest,
    name=st.sampled_from(["person", "yolox-nano", "a.b_c"]),
    version=st.sampled_from(["1", "2026.11.21", "1.0rc1"]),
    task=st.just(Task.DETECTOR),
    input=st.builds(
        InputSpec, st.integers(1, 8192), st.integers(1, 8192), st.sampled_from(Placement), st.integers(0, 255)
    ),
    output=st.builds(
        DetectorOutput,
        st.integers(1, 1000),
        st.floats(0.001, 1),
        st.sampled_from([(), ("angle",), ("kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "age")]),
    ),
    labels=labels,
    files=st.lists(files, min_size=1, max_size=3, unique_by=lambda file: (file.backend, file.precision)).map(tuple),
    defaults=st.builds(Defaults, st.floats(0, 1), st.floats(0, 1)),
    provenance=st.dictionaries(texts, texts, max_size=4),
    bench=st.none() | st.builds(Bench, texts, st.integers(1, 256), st.integers(1, 4096), st.floats(0, 10)),
)


def text(**changes: object) -> str:
    """Write the manifest of a published toy, with its file's facts filled in."""
    file = EngineFile("model.onnx", sha256=SHA, size_bytes=10)
    return write_manifest(replace(toy_manifest(files=(file,)), **changes))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(manifests)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert read_manifest(write_manifest(manifest)) == manifest


def test_a_classifier_and_an_embedder_are_read_back() -> None:
    classifier = read_manifest(text(task=Task.CLASSIFIER, output=ClassifierOutput(2), labels=("cat", "dog")))
    embedder = read_manifest(text(task=Task.EMBEDDER, output=EmbedderOutput(128), labels=()))

    assert (classifier.output_name, classifier.output_shape, classifier.extras) == ("scores", (2,), ())
    assert (embedder.output_name, embedder.output_shape) == ("embedding", (128,))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "toy"', 'name = "toy"\nnmae = "x"', r"nmae is unknown; allowed: .*labels.*name"),
        ("width = 6", "width = 6\ndepth = 3", r"input\.depth is unknown; allowed: height, letterbox, pad, width"),
        ("bytes = 10", "bytes = 10\nsize = 10", r"files\[0\]\.size is unknown; allowed: .*bytes"),
        ("width = 6", "", r"input\.width is missing"),
        ("width = 6", 'width = "6"', r"input\.width is '6'; allowed: an integer, 1\.\.8192"),
        ("width = 6", "width = true", r"input\.width is True"),
        ("pad = 114", "pad = 256", r"input\.pad is 256; allowed: an integer, 0\.\.255"),
        ('letterbox = "top-left"', 'letterbox = "left"', r"input\.letterbox is 'left'; allowed: top-left, centre"),
        ('task = "detector"', 'task = "segmenter"', r"task is 'segmenter'; allowed: detector, classifier, embedder"),
        ("contract_version = 1", "contract_version = 2", r"contract_version 2 is unknown; this build knows 1"),
        ("score_floor = 0.1", "score_floor = 0.0", r"output\.score_floor is 0\.0; allowed: above 0"),
        ("score_floor = 0.1", "score_floor = nan", r"output\.score_floor is nan"),
        ('labels = ["thing"]', "labels = []", "a detector names at least one class"),
        ('labels = ["thing"]', 'labels = ["a", "a"]', "labels: each name may stand once"),
        (f'sha256 = "{SHA}"', 'sha256 = "AB"', r"files\[0\]\.sha256 is 'AB'"),
        ('path = "model.onnx"', 'path = "../model.onnx"', r"files\[0\]\.path is '\.\./model\.onnx'"),
        ('batch = "dynamic"', 'batch = "any"', r"files\[0\]\.batch is 'any'; allowed: 'dynamic' or an integer"),
        ('batch = "dynamic"', "batch = 4\nmax_batch = 8", "max_batch goes with a dynamic batch only"),
        ("[input]", "[input", "is not TOML"),
    ],
)
def test_a_wrong_manifest_is_refused_with_key_value_and_what_is_allowed(old: str, new: str, says: str) -> None:
    good = text()
    assert old in good

    with pytest.raises(ManifestError, match=says):
        read_manifest(good.replace(old, new, 1))


@pytest.mark.parametrize(
    "extras",
    [
        ("kpt:nose:x",),
        ("kpt:nose:x", "kpt:nose:score", "kpt:nose:y"),
        ("kpt:nose:x", "kpt:nose:y", "angle", "kpt:nose:score"),
        ("kpt:nose:x", "kpt:nose:y", "kpt:eye:score"),
        ("kpt:x", "kpt:y", "kpt:score"),
        ("angle", "angle"),
    ],
)
def test_extras_that_are_no_whole_keypoints_are_refused(extras: tuple[str, ...]) -> None:
    with pytest.raises(ManifestError, match=r"output\.extras"):
        check_manifest(toy_manifest(output=DetectorOutput(3, 0.1, extras)))


def test_the_same_backend_and_precision_may_not_stand_twice() -> None:
    with pytest.raises(ManifestError, match="onnxruntime with fp32 stands more than once"):
        check_manifest(toy_manifest(files=(EngineFile("a.onnx"), EngineFile("b.onnx"))))


def test_a_classifier_has_as_many_labels_as_classes() -> None:
    with pytest.raises(ManifestError, match=r"output\.classes is 3, but there are 1 labels"):
        check_manifest(toy_manifest(task=Task.CLASSIFIER, output=ClassifierOutput(3)))


@pytest.mark.parametrize("file", [EngineFile("a.onnx", batch=8), EngineFile("a.onnx", max_batch=8)])
def test_a_bench_beyond_what_its_files_take_is_refused(file: EngineFile) -> None:
    bench = Bench("onnxruntime:CPUExecutionProvider", lanes=2, best_batch=9)
    with pytest.raises(ManifestError, match=r"bench\.best_batch is 9; the files for onnxruntime allow 1\.\.8"):
        check_manifest(toy_manifest(files=(file,), bench=bench))

    check_manifest(toy_manifest(files=(file,), bench=replace(bench, best_batch=8)))
    check_manifest(toy_manifest(files=(file,), bench=replace(bench, backend="tensorrt")))
