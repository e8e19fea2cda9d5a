"""The commands `vedette engine bench`, `profile` and `view`.

Their options are read by hand, so that a wrong value gets one line. Nothing that the base install lacks is imported
before a command is called.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_engines import cli_values, manifest
from vedette_engines.cli_roots import DEFAULT_ROOT, VARIABLE, user_roots
from vedette_engines.errors import BuildError, ImportInputError, MissingRuntimeError
from vedette_engines.repository import EngineRepository, boxed_root

if TYPE_CHECKING:
    from vedette_engines.benching.bench import BenchRequest
    from vedette_engines.benching.report import BenchReport
    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.frames import Sample
    from vedette_engines.profiling.profile import Measured
    from vedette_engines.sources.spec import SourceSpec

_SOURCE = "PyTorch beside the engine"
_RESULTS = "Results"
_NEEDED = ("onnx", "onnxruntime")

Name = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The engine. Default version: the newest.")]
EnginesDir = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="Where to look, besides the engines in the box; may be repeated. "
        f"Default: ${VARIABLE}, else {DEFAULT_ROOT}.",
    ),
]
Threads = Annotated[str, typer.Option(metavar="N", help="Threads of one run. Default: as many as there are cores.")]
Precision = Annotated[
    str, typer.Option(metavar="fp32|fp16|int8", help="Which of the engine's files. Default: the most exact one.")
]

Runners = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUNNER",
        help="onnxruntime, optimised, openvino, cuda, torch or torchscript; may be repeated. "
        "Default: all that can run here.",
    ),
]
Frames = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Videos, pictures or folders to run and to measure accuracy on; may be repeated. "
        "Default: noise, and the accuracy that the build measured.",
    ),
]
Source = Annotated[
    str, typer.Option(metavar="SOURCE", help="The model: module:factory or a file.", rich_help_panel=_SOURCE)
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="State dict for module:factory.", rich_help_panel=_SOURCE),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Allow files that run code when they are loaded.", rich_help_panel=_SOURCE),
]


def bench_command(
    name: Name,
    *,
    batch: Annotated[str, typer.Option(metavar="N,N...", help="Batch sizes.")] = "1,8,32",
    seconds: Annotated[str, typer.Option(metavar="S", help="Time for all candidates together.")] = "60",
    threads: Threads = "",
    runner: Runners = None,
    frames: Frames = None,
    frame_count: Annotated[str, typer.Option(metavar="N", help="How many frames of them.")] = "64",
    memory: Annotated[bool, typer.Option(help="Measure memory, in a process for each candidate.")] = True,
    source: Source = "",
    weights: Weights = None,
    trust: Trust = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.", rich_help_panel=_RESULTS)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with plots that needs nothing else.", rich_help_panel=_RESULTS),
    ] = None,
    engines_dir: EnginesDir = None,
) -> None:
    """Measure an engine on every runner that is here: speed, size, memory and accuracy, side by side and in turns."""
    need_runtime("measuring")
    from vedette_engines.benching.bench import BenchRequest, run_bench  # noqa: PLC0415  (needs a runtime)

    bundle = resolve(name, engines_dir)
    spec = _source_spec(source, weights, trust, bundle)
    request = BenchRequest(
        bundle,
        batches=tuple(cli_values.whole("--batch", part.strip(), 1, 1024) for part in batch.split(",")),
        seconds=cli_values.number("--seconds", seconds),
        threads=threads_of(threads),
        runners=tuple(runner or ()),
        source=spec,
        samples=_samples(frames, bundle, cli_values.whole("--frame-count", frame_count, 1, 100_000)),
        memory=memory,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    report = run_bench(_with_preprocessing(request), lambda line: typer.echo(line, err=True))
    _show(report)
    if json is not None:
        write(json, report.to_json())
    if html is not None:
        from vedette_engines.benching.page import page  # noqa: PLC0415

        write(html, page(report))


def _show(report: BenchReport) -> None:
    from rich.console import Console  # noqa: PLC0415

    from vedette_engines.benching.table import failures, rows_table, ways_table  # noqa: PLC0415

    console = Console(highlight=False)
    # A narrower terminal wraps: cut figures would be worse.
    console.width = max(console.width, 110)
    console.print(rows_table(report))
    console.print(ways_table(report))
    for line in failures(report):
        typer.echo(line)


def _source_spec(source: str, weights: Path | None, trust: bool, bundle: Bundle) -> SourceSpec | None:
    if not source:
        if weights is not None:
            raise ImportInputError(f"--weights is {weights}, but there is no --source that it belongs to")
        return None
    from vedette_engines.sources.spec import SourceSpec  # noqa: PLC0415

    size = (bundle.manifest.input.width, bundle.manifest.input.height)
    return SourceSpec(source, weights=weights, trust=trust, input_size=size)


def _with_preprocessing(request: BenchRequest) -> BenchRequest:
    """Give PyTorch the preprocessing that the engine has in its graph."""
    from dataclasses import replace  # noqa: PLC0415

    from vedette_engines.benching.ways import preprocessing_of  # noqa: PLC0415
    from vedette_engines.graft.preprocess import Preprocessing  # noqa: PLC0415

    if request.source is None:
        return request
    known = preprocessing_of(request.bundle.manifest)
    if known is None:
        typer.echo(
            "the engine does not say its preprocessing: PyTorch gets RGB in 0..1, which costs the same", err=True
        )
    return replace(request, preprocessing=known or Preprocessing("rgb", 1 / 255))


def _samples(frames: list[Path] | None, bundle: Bundle, count: int) -> tuple[Sample, ...]:
    if not frames:
        return ()
    from vedette_engines.footage.clips import find_clips  # noqa: PLC0415  (needs a runtime)
    from vedette_engines.footage.frames import read_frames  # noqa: PLC0415

    def say(line: str) -> None:
        typer.echo(line, err=True)

    return tuple(read_frames(find_clips(frames, "--frames", say), bundle.manifest.input, count, say))


def resolve(name: str, engines_dir: list[Path] | None) -> Bundle:
    """Find an engine by NAME or NAME@VERSION."""
    engine, _, version = name.partition("@")
    return EngineRepository([*user_roots(engines_dir), boxed_root()]).resolve(engine, version)


def threads_of(text: str) -> int | None:
    """Read a number of threads; empty: None."""
    return cli_values.whole("--threads", text, 1, 1024) if text else None


def need_runtime(what: str) -> None:
    """Make sure that what the commands stand on is installed.

    Raises:
        MissingRuntimeError: It is not; the message names the extra.
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingRuntimeError(f"{package} is not installed; {what} needs: pip install 'vedette[cpu]'")


def write(path: Path, text: str) -> None:
    """Write a result and tell where it is.

    Raises:
        BuildError: It cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path}: cannot be written: {error}") from error
    typer.echo(f"written: {path}", err=True)


def profile_command(
    name: Name,
    *,
    precision: Precision = "",
    runner: Annotated[str, typer.Option(metavar="onnxruntime|openvino", help="Whose profiler.")] = "onnxruntime",
    provider: Annotated[str, typer.Option(metavar="NAME", help="Provider of ONNX Runtime: cpu, cuda, ...")] = "cpu",
    batch: Annotated[str, typer.Option(metavar="N", help="Frames per run.")] = "1",
    runs: Annotated[str, typer.Option(metavar="N", help="Runs to measure.")] = "20",
    threads: Threads = "",
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write all runs as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.", rich_help_panel=_RESULTS)
    ] = None,
    engines_dir: EnginesDir = None,
) -> None:
    """Show where an engine's time goes, operator by operator, and what to do about it."""
    need_runtime("profiling")
    cli_values.choice("--runner", runner, ("onnxruntime", "openvino"))
    from vedette_engines.benching.bench import cores  # noqa: PLC0415  (needs a runtime)
    from vedette_engines.profiling.measure import (  # noqa: PLC0415
        ProfileRequest,
        profile_onnxruntime,
        profile_openvino,
    )
    from vedette_engines.profiling.text import to_json  # noqa: PLC0415
    from vedette_engines.profiling.trace import trace as written  # noqa: PLC0415

    request = ProfileRequest(
        resolve(name, engines_dir),
        precision=precision_of(precision),
        batch=cli_values.whole("--batch", batch, 1, 1024),
        runs=cli_values.whole("--runs", runs, 1, 10_000),
        threads=threads_of(threads) or cores(),
        provider=provider,
    )
    measured = (profile_openvino if runner == "openvino" else profile_onnxruntime)(request)
    _show_profile(measured)
    if trace is not None:
        write(trace, written(measured.profile))
    if json is not None:
        write(json, to_json(measured))


def _show_profile(measured: Measured) -> None:
    from rich.console import Console  # noqa: PLC0415

    from vedette_engines.profiling.text import advice_lines, nodes_table, operators_table  # noqa: PLC0415

    console = Console(highlight=False)
    console.width = max(console.width, 110)
    profile = measured.profile
    console.print(operators_table(measured))
    console.print(nodes_table(measured))
    typer.echo(
        f"A run takes {profile.run_s * 1e3:.3f} ms, its {len(profile.nodes)} nodes {profile.nodes_s * 1e3:.3f} ms "
        f"(medians of {profile.runs} runs)."
    )
    lines = advice_lines(measured)
    typer.echo("Advice, by the share of the time it is about:" if lines else "Nothing stands out.")
    for line in lines:
        typer.echo(f"- {line}")


def precision_of(text: str) -> manifest.Precision | None:
    """Read a precision; empty: None."""
    if not text:
        return None
    return manifest.Precision(cli_values.choice("--precision", text, [str(one) for one in manifest.Precision]))


def view_command(
    name: Name,
    *,
    precision: Precision = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.svg", help="Draw the graph into a file instead.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[str, typer.Option(metavar="N", help="Port on the loopback. Default: any that is free.")] = "0",
    engines_dir: EnginesDir = None,
) -> None:
    """Show an engine's graph: in Netron until Ctrl-C, or as an SVG."""
    number = cli_values.whole("--port", port, 0, 65535)
    need_runtime("viewing")
    bundle = resolve(name, engines_dir)
    path = bundle.path_of(bundle.file_for(manifest.Backend.ONNXRUNTIME, precision_of(precision)))
    if output is not None:
        import onnx  # noqa: PLC0415  (an extra)

        from vedette_engines.viewing.svg import draw  # noqa: PLC0415

        write(output, draw(onnx.load(str(path)), f"{bundle.name} {bundle.version}, {path.name}"))
        return
    from vedette_engines.viewing.browser import show  # noqa: PLC0415

    show(path, number, browser=browser, say=typer.echo)
