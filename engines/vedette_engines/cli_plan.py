"""The command `vedette engine plan`: TensorRT plans of a published engine, for the GPU at hand.

Its options are read by hand, so that a wrong value gets one line. Nothing that the base install lacks is imported
before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette_engines import cli_values
from vedette_engines.cli_roots import DEFAULT_ROOT, VARIABLE, user_roots
from vedette_engines.errors import BuildError, ImportInputError, MissingRuntimeError
from vedette_engines.manifest import VERSION_PATTERN, Precision
from vedette_engines.repository import EngineRepository, boxed_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile
    from vedette_engines.plans.adding import Added
    from vedette_engines.plans.request import PlanRequest

NEXT = "next"
_DEFAULT_CACHE = "~/.cache/vedette/plans"
_HOW = "The build"
_WHERE = "Results"
Words = list[str] | None


Name = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The engine. Default version: the newest.")]
Precisions = Annotated[
    str, typer.Option(metavar="P,...", help="fp32, fp16, int8. Default: the most exact file.", rich_help_panel=_HOW)
]
Profiles = Annotated[
    Words,
    typer.Option(
        metavar="MIN:OPT:MAX",
        help="Batches of one optimisation profile; may be repeated. Default: 1:8:32, or 1:1:1 where the engine takes "
        "single frames only.",
        rich_help_panel=_HOW,
    ),
]
Workspace = Annotated[
    str, typer.Option(metavar="SIZE", help="Most scratch memory, like 512MiB or 2GiB.", rich_help_panel=_HOW)
]
Targets = Annotated[
    Words,
    typer.Option(
        metavar="sm_NN",
        help="Compute capability to build for; may be repeated, with tensorrt_rtx. Default: this machine's GPU; "
        "without one all from Ampere on.",
        rich_help_panel=_HOW,
    ),
]
VersionCompatible = Annotated[
    bool,
    typer.Option("--version-compatible", help="Also for later versions of the same major one.", rich_help_panel=_HOW),
]
Hardware = Annotated[
    str,
    typer.Option(
        metavar="none|same|ampere+",
        help="Also for other GPUs: of the same compute capability, or all from Ampere on.",
        rich_help_panel=_HOW,
    ),
]
Refit = Annotated[bool, typer.Option("--refit", help="Weights can be changed later.", rich_help_panel=_HOW)]
Strip = Annotated[bool, typer.Option("--strip", help="Leave the weights out.", rich_help_panel=_HOW)]
Tf32 = Annotated[bool, typer.Option("--tf32", help="Round float32 factors to ten bits: faster.", rich_help_panel=_HOW)]
TimingCache = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keeps timings for the next build.", rich_help_panel=_HOW)
]
Module = Annotated[
    str,
    typer.Option(metavar="tensorrt|tensorrt_rtx", help="Which. Default: what is installed.", rich_help_panel=_HOW),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE.plan", help="Write it here.", rich_help_panel=_WHERE)
]
Publish = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="Publish the engine again, with the plan, as this version; `next`: the next whole number.",
        rich_help_panel=_WHERE,
    ),
]
Layers = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", help="Write TensorRT's account of the layers here.", rich_help_panel=_WHERE),
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help=f"Keeps plans. Default: {_DEFAULT_CACHE}.", rich_help_panel=_WHERE),
]
EnginesDir = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="Where to look, besides the engines in the box, and to publish; may be repeated. "
        f"Default: ${VARIABLE}, else {DEFAULT_ROOT}.",
        rich_help_panel=_WHERE,
    ),
]


def plan_command(
    name: Name,
    *,
    precision: Precisions = "",
    profile: Profiles = None,
    workspace: Workspace = "1GiB",
    target: Targets = None,
    version_compatible: VersionCompatible = False,
    hardware_compatibility: Hardware = "none",
    refit: Refit = False,
    strip: Strip = False,
    tf32: Tf32 = False,
    timing_cache: TimingCache = None,
    tensorrt: Module = "",
    output: Output = None,
    publish: Publish = "",
    layers: Layers = None,
    cache: Cache = None,
    engines_dir: EnginesDir = None,
) -> None:
    """Build TensorRT plans of an engine for the GPU at hand."""
    words = dict(locals())
    engine, _, version = name.partition("@")
    roots = user_roots(engines_dir)
    bundle = EngineRepository([*roots, boxed_root()]).resolve(engine, version)
    precisions = _precisions(precision)
    _check_results(output, publish, layers, len(precisions), strip=strip)
    try:
        from vedette_engines.plans.adding import publish_with  # noqa: PLC0415  (needs onnx)
    except ImportError as error:
        raise MissingRuntimeError(
            f"building plans needs {error.name}: pip install 'vedette[tensorrt]', or 'vedette[tensorrt-rtx]'"
        ) from error
    place, new_version = _target(bundle, roots[0], publish)
    plans = (cache or Path(_DEFAULT_CACHE)).expanduser()
    added = [_build(bundle, one, words, plans) for one in precisions]
    if layers is not None:
        _write_layers(layers, added[0])
    if output is not None:
        _write(output, added[0].plan.content)
    if publish:
        published = publish_with(bundle, added, place, new_version)
        typer.echo(f"published {published.name} {published.version} in {published.path}")


def _precisions(words: str) -> list[Precision | None]:
    found = [word.strip() for word in words.split(",") if word.strip()]
    chosen = [Precision(cli_values.choice("--precision", word, [*Precision])) for word in dict.fromkeys(found)]
    return list(chosen) or [None]


def _check_results(output: Path | None, publish: str, layers: Path | None, count: int, *, strip: bool) -> None:
    """Find out now what would fail after the builds."""
    if output is None and not publish:
        raise ImportInputError("what is to become of the plan? give -o FILE.plan, or --publish VERSION")
    for option, path in (("--output", output), ("--layers", layers)):
        if path is None:
            continue
        if count > 1:
            raise ImportInputError(f"{option} {path} is one file, but there are {count} precisions; build one")
        if not path.absolute().parent.is_dir():
            raise ImportInputError(f"{option} {path}: there is no folder {path.absolute().parent}")
    if publish and strip:
        raise ImportInputError("--strip leaves the weights out, so that nobody could run the published plan; give -o")
    if publish and not VERSION_PATTERN.fullmatch(publish):
        raise ImportInputError(f"--publish is {publish!r}; allowed is {VERSION_PATTERN.pattern}, or {NEXT}")


def _build(bundle: Bundle, precision: Precision | None, words: Mapping[str, Any], cache: Path) -> Added:
    from rich.console import Console  # noqa: PLC0415

    from vedette_engines.plans.adding import build_for, source_file  # noqa: PLC0415  (needs onnx)
    from vedette_engines.plans.cache import PlanCache  # noqa: PLC0415
    from vedette_engines.plans.module import find_tensorrt  # noqa: PLC0415
    from vedette_engines.plans.progress import ProgressView  # noqa: PLC0415

    source = source_file(bundle, precision)
    request = _request(bundle, source, words)
    tensorrt = find_tensorrt(words["tensorrt"])
    typer.echo(f"{source.path} of {bundle.name} {bundle.version} ({source.precision}) with {tensorrt}")
    with ProgressView(Console(stderr=True)) as view:
        added = build_for(bundle, source, request, tensorrt, PlanCache(cache), typer.echo, view)
    plan, profiles = added.plan, ", ".join(str(profile) for profile in request.profiles)
    how = "built before" if added.reused else f"built in {plan.seconds:.1f} s"
    typer.echo(f"{how}: {len(plan.content)} bytes for {'+'.join(plan.info.targets)}, profiles {profiles}")
    return added


def _request(bundle: Bundle, source: EngineFile, words: Mapping[str, Any]) -> PlanRequest:
    from vedette_engines.plans.request import PlanRequest, Profile  # noqa: PLC0415

    batch = source.batch
    usual = Profile(1, 8, 32) if batch is None else Profile(batch, batch, batch)
    return PlanRequest(
        onnx=bundle.path_of(source),
        profiles=tuple(Profile(*cli_values.batches("--profile", word)) for word in words["profile"] or ()) or (usual,),
        workspace_bytes=cli_values.memory("--workspace", words["workspace"]),
        targets=tuple(words["target"] or ()),
        version_compatible=words["version_compatible"],
        hardware_compatibility=words["hardware_compatibility"],
        refit=words["refit"],
        strip=words["strip"],
        tf32=words["tf32"],
        timing_cache=words["timing_cache"],
    )


def _write_layers(path: Path, added: Added) -> None:
    if added.plan.layers is None:
        typer.echo(f"{path} is not written: TensorRT tells a plan's layers only on a GPU that it can run on", err=True)
        return
    _write(path, added.plan.layers.encode())


def _write(path: Path, content: bytes) -> None:
    from vedette_engines.plans.timing import write_whole  # noqa: PLC0415

    try:
        write_whole(path.absolute(), content)
    except OSError as error:
        raise BuildError(f"{path}: cannot be written: {error}") from error
    typer.echo(f"written to {path}")


def _target(bundle: Bundle, root: Path, publish: str) -> tuple[Path, str]:
    """Tell where to publish, and as which version; empty: nothing is to be published.

    Raises:
        ImportInputError: The version is taken.
    """
    from vedette_engines.cli_import import next_version  # noqa: PLC0415

    # Beside the version that it is made of; what comes with the package stays as it is.
    own = bundle.path.parent.parent
    target = root if own == boxed_root() else own
    if publish == NEXT:
        after = max(int(next_version(target, bundle.name)), _whole(bundle.version) + 1)
        return target, str(after)
    place = target.absolute() / bundle.name / publish
    if publish and place.exists():
        raise ImportInputError(f"engine {bundle.name} {publish} exists already in {place}; give another --publish")
    return target, publish


def _whole(version: str) -> int:
    """Read a version as a whole number; 0 where it is none."""
    return int(version) if version.isascii() and version.isdigit() else 0
