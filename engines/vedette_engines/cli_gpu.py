"""The command `vedette gpu check`: what is here, what works, and what would run where.

Nothing that the base install lacks is imported: each library is asked in a process of its own.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vedette_engines.errors import EnginesError, ImportInputError

_WRONG_COMMAND = 2
_WIDEST = 120
# Of `doctor.abilities`, which needs NumPy; a test compares them.
_REQUIRABLE = (
    "gpu, cuda, cuda-bindings, graphs, gpu-metrics, nvdec, onnxruntime, openvino, preprocess, pycuda, tensorrt, "
    "tensorrt-rtx"
)

app = typer.Typer(
    name="gpu", help="Look at the GPU and what is around it.", add_completion=False, pretty_exceptions_enable=False
)


@app.callback(no_args_is_help=True)
def _group() -> None:
    """Look at the GPU and what is around it."""


@app.command("check")
def check_command(
    device: Annotated[int, typer.Option("--device", metavar="N", min=0, help="Which GPU is meant.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", metavar="WHAT", help=f"Exit code 1 without it; repeatable: {_REQUIRABLE}."),
    ] = None,
    trials: Annotated[bool, typer.Option("--try/--no-try", help="Run the engine `blobs` on each backend.")] = True,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", metavar="SECONDS", min=1, help="Most time for one library's answer.")
    ] = 60.0,
    trial_timeout_s: Annotated[
        float, typer.Option("--trial-timeout-s", metavar="SECONDS", min=1, help="Most time for one trial.")
    ] = 300.0,
) -> None:
    """Say what is here, what works and why the rest does not, and try it.

    Exit code 0: all that was found works, also where there is no GPU. 1: something that is installed does not work, or
    what --require names is not there. 2: the command is wrong.
    """
    from rich.console import Console  # noqa: PLC0415  (the help does without)

    from vedette_engines.doctor.abilities import REQUIRABLE  # noqa: PLC0415
    from vedette_engines.doctor.check import Request, examine  # noqa: PLC0415
    from vedette_engines.doctor.page import show  # noqa: PLC0415

    try:
        wanted = tuple(word for one in require or () for word in one.split(","))
        unknown = [word for word in wanted if word not in REQUIRABLE]
        if unknown:
            raise ImportInputError(f"--require is {unknown[0]!r}; allowed are {', '.join(REQUIRABLE)}")
        request = Request(device, wanted, trials, timeout_s, trial_timeout_s)
        with Console(stderr=True).status("looking") as status:
            report = examine(request, tell=lambda what: status.update(f"looking at {what}"))
    except EnginesError as error:
        typer.echo(f"vedette gpu check: {error}", err=True)
        raise typer.Exit(_WRONG_COMMAND) from error
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        console = Console()
        console.width = min(console.width, _WIDEST)
        show(report, console)
    raise typer.Exit(report.exit_code)
