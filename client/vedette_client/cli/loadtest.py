"""The command `vedette loadtest`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client import AnalyzeOptions, OptionsError
from vedette_client.cli import reach as to
from vedette_client.cli import wanted
from vedette_client.cli.outcome import FAILED, say
from vedette_client.cli.wanted import PolicyName

if TYPE_CHECKING:
    from vedette_client.cli.loadtest_show import Show
    from vedette_client.loadtest.plan import LoadPlan
    from vedette_client.loadtest.report import Report
    from vedette_client.loadtest.search import Objective, Step

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_WHO = "vedette loadtest"

Channels = Annotated[
    int, typer.Option("--channels", metavar="N", min=1, help="Cameras; with --search, how many to begin with.")
]
Fps = Annotated[float, typer.Option("--fps", metavar="FPS", help="Frames per second of each camera.")]
Duration = Annotated[float, typer.Option("--duration", metavar="S", help="Seconds for which frames are due.")]
Source = Annotated[
    list[str],
    typer.Option(
        "--source", metavar="SOURCE", help="What cameras show: a recording or a scene; repeatable, dealt out in turn."
    ),
]
Jitter = Annotated[
    float,
    typer.Option("--jitter-ms", metavar="MS", min=0.0, help="Frames are due up to so many milliseconds off the beat."),
]
ReconnectEvery = Annotated[
    float,
    typer.Option(
        "--reconnect-every",
        metavar="S",
        min=0.0,
        help="Cut all connections every so many seconds, a storm of reconnects; 0: never.",
    ),
]
Processes = Annotated[int, typer.Option("--processes", metavar="N", min=1, help="Sending processes.")]
PerConnection = Annotated[
    int, typer.Option("--per-connection", metavar="N", min=1, help="Cameras that share one TCP connection.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the jitter.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON. Default: none.")
]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with plots that needs no other file. Default: none."),
]
Search = Annotated[
    bool,
    typer.Option(
        "--search", help="Find the most channels that hold --slo-p95-ms and --max-skip; each step lasts --duration."
    ),
]
SloP95 = Annotated[
    float,
    typer.Option(
        "--slo-p95-ms", metavar="MS", min=0.0, help="With --search: latency in milliseconds that 95 % must hold."
    ),
]
MaxSkip = Annotated[
    float,
    typer.Option(
        "--max-skip",
        metavar="PERCENT",
        min=0.0,
        max=100.0,
        help="With --search: most frames, in per cent, without an analysis.",
    ),
]
MaxChannels = Annotated[
    int, typer.Option("--max-channels", metavar="N", min=1, help="With --search: try no more than these.")
]
ServerPid = Annotated[
    int | None,
    typer.Option(
        "--server-pid",
        metavar="PID",
        min=1,
        help="The server's process, for its CPU time and memory. Default: whoever listens on the port here.",
    ),
]


@app.command(
    "loadtest",
    help="Send many cameras and measure what a server holds.\n\n"
    "Frames are sent by an open-loop schedule, and their latency is counted from when they were due, so that a server "
    "that stalls is not flattered. Checks that client and server count the same, and that what is found in scenes is "
    "what is there. Exit code 1 when an account does not close.",
)
def loadtest(
    server: to.Server = to.DEFAULT_SERVER,
    channels: Channels = 16,
    fps: Fps = 15.0,
    duration: Duration = 10.0,
    source: Source = ["synthetic:walkers"],  # noqa: B006  typer copies it
    engine: wanted.Engine = ["person"],  # noqa: B006  typer copies it
    policy: wanted.PolicyOption = PolicyName.LIVE,
    jitter_ms: Jitter = 0.0,
    reconnect_every: ReconnectEvery = 0.0,
    processes: Processes = 1,
    per_connection: PerConnection = 8,
    seed: Seed = 1,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    search: Search = False,
    slo_p95_ms: SloP95 = 500.0,
    max_skip: MaxSkip = 1.0,
    max_channels: MaxChannels = 1024,
    server_pid: ServerPid = None,
    tls: to.Tls = False,
    tls_ca: to.TlsCa = None,
    tls_cert: to.TlsCert = None,
    tls_key: to.TlsKey = None,
    token: to.Token = None,
) -> None:
    """Send many cameras and measure what a server holds."""
    from vedette_client.cli.loadtest_show import Show  # noqa: PLC0415  other commands need no NumPy
    from vedette_client.loadtest.plan import LoadPlan  # noqa: PLC0415
    from vedette_client.loadtest.search import Objective  # noqa: PLC0415

    for file in (json_file, html_file):
        if file is not None and not file.parent.is_dir():
            raise OptionsError(f"{file} cannot be written: there is no directory {file.parent}")
    plan = LoadPlan(
        reach=to.reach(server, tls, tls_ca, tls_cert, tls_key, token),
        channels=channels,
        fps=fps,
        duration_s=duration,
        sources=tuple(source),
        options=AnalyzeOptions(engines=tuple(engine), policy=policy.policy),
        jitter_s=jitter_ms / 1000,
        reconnect_every_s=reconnect_every,
        processes=processes,
        per_connection=per_connection,
        seed=seed,
    )
    show = Show()
    if search:
        report = _search(plan, Objective(slo_p95_ms, max_skip), max_channels, server_pid, show)
    else:
        report = _measure(plan, server_pid, show)
    show.report(report)
    raise typer.Exit(_write(report, json_file, html_file, show))


def _measure(plan: LoadPlan, server_pid: int | None, show: Show) -> Report:
    """Run one load test."""
    from vedette_client.loadtest.circumstances import circumstances  # noqa: PLC0415
    from vedette_client.loadtest.proc import find_listener  # noqa: PLC0415
    from vedette_client.loadtest.report import Report  # noqa: PLC0415
    from vedette_client.loadtest.runner import LoadRun  # noqa: PLC0415
    from vedette_client.loadtest.statistics import summarise  # noqa: PLC0415

    pid = server_pid
    if pid is None and plan.reach.host in {"localhost", "::1"} | {f"127.0.0.{last}" for last in range(1, 255)}:
        pid = find_listener(plan.reach.port)
    with show.running(plan) as on_progress, LoadRun(plan, pid, on_progress) as run:
        records = run.run()
    version = next((one.server_version for one in records.cameras if one.server_version), "")
    return Report(circumstances(version, pid), plan, summarise(plan, records))


def _search(plan: LoadPlan, objective: Objective, most: int, server_pid: int | None, show: Show) -> Report:
    """Find the most channels; reports the largest test that held, or the smallest that did not."""
    from vedette_client.loadtest.report import Searched  # noqa: PLC0415
    from vedette_client.loadtest.search import Step, search  # noqa: PLC0415

    steps: list[Step] = []
    reports: dict[int, Report] = {}

    def holds(channels: int) -> bool:
        report = _measure(replace(plan, channels=channels), server_pid, show)
        reports[channels] = report
        steps.append(Step(channels, objective.misses(report.summary), report.summary))
        show.step(steps[-1])
        return steps[-1].held

    found = search(holds, first=plan.channels, most=most)
    best = reports[found.channels or min(reports)]
    return replace(best, searched=Searched(objective, found, steps))


def _write(report: Report, json_file: Path | None, html_file: Path | None, show: Show) -> int:
    """Write the files; returns the exit code."""
    from vedette_client.loadtest.page import html_page  # noqa: PLC0415
    from vedette_client.loadtest.report import to_json  # noqa: PLC0415

    if json_file is not None:
        json_file.write_text(json.dumps(to_json(report), indent=1) + "\n", encoding="utf-8")
        show.wrote(json_file)
    if html_file is not None:
        html_file.write_text(html_page(report), encoding="utf-8")
        show.wrote(html_file)
    problems = report.summary.accounts.problems
    if not problems:
        return 0
    channel, problem = next(iter(problems.items()))
    say(_WHO, f"{len(problems)} accounts do not close; {channel}: {problem}")
    return FAILED
