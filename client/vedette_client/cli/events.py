"""The commands of `vedette events`.

EVENT is what the lists show: `EVENT`, `CHANNEL/EVENT` or `channels/CHANNEL/events/EVENT`; the first letters of EVENT
are enough as long as only one of the latest events begins so.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  connected() has the annotations evaluated
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client.cli import events_choosing as choosing
from vedette_client.cli.connected import connected
from vedette_client.cli.events_lines import seen_words
from vedette_client.cli.events_naming import LEAST_CHARS, MOST_SEARCHED, find_event, say_unknown
from vedette_client.cli.events_times import read_time, show_time
from vedette_client.cli.files import check_folder, check_jpeg_place, check_place, whole_file, write_whole
from vedette_client.cli.outcome import FAILED, say, tell
from vedette_client.client import Client  # noqa: TC001  connected() has the annotations evaluated
from vedette_client.errors import IntegrityError, OptionsError
from vedette_client.events_data import EvidenceState

if TYPE_CHECKING:
    from vedette_client.events_chain import ChainHead
    from vedette_client.events_data import EventFilter

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Find events, fetch their evidence, acknowledge and verify them.",
)

_NAMED = f"its first letters ({LEAST_CHARS} or more, unique among the latest {MOST_SEARCHED:,} events)"
EventName = Annotated[
    str, typer.Argument(metavar="EVENT", help=f"The event: {_NAMED}, CHANNEL/EVENT, or its whole name.")
]
Channels = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="NAME", help="Only of this channel; may be repeated. Default: of all."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only what went on then or later: -1h, 18:00, ISO. Default: all."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only what began before: -1h, 18:00, ISO. Default: all.")
]
Playable = Annotated[
    bool, typer.Option("--playable", help="What browsers play: transcoded where the camera sends something else.")
]
Annotate = Annotated[bool, typer.Option("--annotated", help="With what was seen drawn in.")]


@app.command("list")
@connected
async def list_command(
    client: Client,
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    rule: choosing.Rules = None,
    kind: choosing.Kinds = None,
    label: choosing.Labels = None,
    state: choosing.State = None,
    unseen: choosing.Unseen = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Write lines of JSON, for programs.")] = False,
) -> None:
    """List events, the newest first."""
    from vedette_client.cli.events_json import event_line  # noqa: PLC0415  only this and the export need it
    from vedette_client.cli.events_pages import events_table  # noqa: PLC0415
    from vedette_client.cli.terminal import WIDEST, console  # noqa: PLC0415

    wanted = _wanted(since, until, choosing.chosen(rule, kind, label, unseen=unseen, state=state))
    lists = [await client.events.list(one, wanted, limit=limit + 1) for one in dict.fromkeys(channel or (None,))]
    await say_unknown(client, channel or (), "vedette events list")
    found = sorted((event for one in lists for event in one), key=lambda event: event.start_time_ns, reverse=True)
    if json:
        for event in found[:limit]:
            typer.echo(event_line(event))
        return
    if not found:
        typer.echo("no events")
        return
    output = console(file_width=WIDEST)
    output.print(events_table(found[:limit], f"events of {client.address}", output.width))
    if len(found) > limit:
        typer.echo(f"and more; --limit N shows more than {limit}")


@app.command("show")
@connected
async def show_command(
    client: Client,
    event: EventName,
    snapshot: Annotated[
        Path | None,
        typer.Option("--snapshot", metavar="FILE", help="Write its picture here, a JPEG. Default: nowhere."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write a line of JSON, with the trail.")] = False,
) -> None:
    """Show all that is known of an event."""
    from vedette_client.cli.events_json import event_line  # noqa: PLC0415
    from vedette_client.cli.events_pages import event_page  # noqa: PLC0415
    from vedette_client.cli.terminal import console  # noqa: PLC0415

    if snapshot is not None:
        check_jpeg_place(snapshot, "--snapshot")
    found = await find_event(client, event)
    if json:
        typer.echo(event_line(found, trail=True))
    else:
        console().print(event_page(found))
    if snapshot is not None:
        annotated = found.annotated_snapshot.state is EvidenceState.READY
        _write(snapshot, await client.events.snapshot(found, annotated=annotated))


@app.command("ack")
@connected
async def ack_command(
    client: Client,
    events: Annotated[
        list[str], typer.Argument(metavar="EVENT...", help=f"The events: {_NAMED}, CHANNEL/EVENT, or whole names.")
    ],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What is to be remembered. Default: none.")] = "",
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Who has seen it. Default: whom the token names, else nobody.")
    ] = "",
) -> None:
    """Acknowledge events: somebody has seen them."""
    unkept = 0
    for event in events:
        seen = await client.events.acknowledge(await find_event(client, event), note=note, user=user)
        tell(f"{seen.channel}/{seen.event_id}: {seen_words(seen)[0]}")
        if note and seen.acknowledgement and seen.acknowledgement.note != note:
            unkept += 1
            named = "an acknowledgement that nobody's name stands at does not replace this one; give --user NAME"
            say("vedette events ack", f"{seen.channel}/{seen.event_id}: the note was not kept: {named}")
    if unkept:
        raise typer.Exit(FAILED)


@app.command("snapshot")
@connected
async def snapshot_command(
    client: Client,
    event: EventName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write the JPEG here.")],
    annotated: Annotate = False,
) -> None:
    """Fetch the picture of an event; its hash is checked."""
    check_jpeg_place(output, "-o")
    found = await find_event(client, event)
    _write(output, await client.events.snapshot(found, annotated=annotated))


@app.command("clip")
@connected
async def clip_command(
    client: Client,
    event: EventName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write the MP4 here.")],
    playable: Playable = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="Wait so long for a clip that is still being written.")
    ] = 10.0,
) -> None:
    """Fetch the clip of an event; the file is there only when all has come and its hash is right."""
    check_place(output, "-o")
    found = await find_event(client, event)
    info = await client.events.clip(found, output, playable=playable, wait_s=wait)
    how = ", transcoded" if info.transcoded else ""
    tell(f"{output}: {info.size_bytes} bytes{how}, sha256 {info.sha256}")


@app.command("export")
@connected
async def export_command(
    client: Client,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the events here, lines of JSON. Default: nowhere."),
    ] = None,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="Write the signed head here, alone. Default: nowhere.")
    ] = None,
    with_evidence: Annotated[
        Path | None,
        typer.Option("--with-evidence", metavar="DIR", help="Fetch pictures and clips to here. Default: none."),
    ] = None,
    trails: Annotated[bool, typer.Option("--trails", help="With each object's way.")] = False,
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    rule: choosing.Rules = None,
    kind: choosing.Kinds = None,
    label: choosing.Labels = None,
    state: choosing.State = None,
    unseen: choosing.Unseen = False,
) -> None:
    """Export events, the newest first, and the signed head of their chain in the last line.

    A head that is kept elsewhere convicts a store that was rewritten: vedette events verify --head FILE.
    """
    from vedette_client.cli.events_export import Export  # noqa: PLC0415

    if output is None and head is None:
        raise OptionsError("nothing is to be written; give -o FILE for the events, --head FILE for the head, or both")
    if output is None and with_evidence is not None:
        raise OptionsError("--with-evidence goes with the events; give -o FILE, too")
    wanted = _wanted(since, until, choosing.chosen(rule, kind, label, unseen=unseen, state=state))
    _check_places(output, head, with_evidence)
    export = Export(client)
    if output is not None:
        channels = tuple(dict.fromkeys(channel or ()))
        await say_unknown(client, channels, "vedette events export")
        signed = await export.write(output, channels, wanted, trails=trails, evidence=with_evidence)
        files = f", {export.files} files in {with_evidence}" if with_evidence is not None else ""
        typer.echo(f"{output}: {export.events} events{files}")
    else:
        signed = await client.events.chain_head()
    if head is not None:
        with whole_file(head) as file:
            file.write(signed.to_json())
        tell(f"{head}: {_told(signed)}")
    for problem in export.problems:
        say("vedette events export", problem)
    if export.problems:
        raise typer.Exit(FAILED)


@app.command("verify")
@connected
async def verify_command(
    client: Client,
    head: Annotated[
        Path | None,
        typer.Option(
            "--head", metavar="FILE", help="The chain must contain this head: its file, or an export. Default: none."
        ),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Also read every file of evidence.")] = False,
) -> None:
    """Check the chain of events: nothing was changed, taken away or put in. Exit code 1: something does not fit.

    The server checks its own store; what convicts one that was rewritten is a head that was kept elsewhere.
    """
    from vedette_client.cli.events_export import read_head  # noqa: PLC0415

    kept = read_head(head) if head is not None else None
    findings = [] if kept is None else _signature(kept, f"the head in {head}")
    now = await client.events.chain_head()
    findings += _signature(now, "the server's present head")
    if kept is not None and kept.public_key != now.public_key:
        findings.append("the server signs with another key than the head that was kept: the store is another one")
    found = await client.events.verify(kept, files=files)
    findings += found.findings
    for finding in findings:
        tell(finding)
    checked = f"{found.records} records" + (f" and {found.files} files" if files else "")
    if findings:
        say("vedette events verify", f"{len(findings)} findings in {checked}")
        raise typer.Exit(FAILED)
    typer.echo(f"{checked} checked, all is well")
    tell(f"head now: {_told(now)}")


def _check_places(output: Path | None, head: Path | None, evidence: Path | None) -> None:
    for path, option in ((output, "-o"), (head, "--head")):
        if path is not None:
            check_place(path, option)
    if evidence is not None:
        check_folder(evidence if evidence.is_dir() else evidence.parent, evidence, "--with-evidence")


def _signature(head: ChainHead, what: str) -> list[str]:
    """Check a signature here, and give what is wrong with it."""
    try:
        head.check_signature()
    except IntegrityError as error:
        return [f"{what}: {error}"]
    except ImportError:
        say("vedette events verify", f"the signature of {what} is not checked here: pip install 'vedette[verify]'")
    return []


def _told(head: ChainHead) -> str:
    when = show_time(head.sign_time_ns)
    return f"{head.length} records, {head.hash[:16]}..., signed {when} with key {head.public_key.hex()[:16]}..."


def _wanted(since: str | None, until: str | None, chosen: EventFilter | None) -> EventFilter | None:
    from dataclasses import replace  # noqa: PLC0415

    from vedette_client.events_data import EventFilter  # noqa: PLC0415

    if since is None and until is None:
        return chosen
    since_ns = None if since is None else read_time(since, "--since")
    until_ns = None if until is None else read_time(until, "--until")
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise OptionsError(f"--until {until} lies before --since {since}; nothing could be found")
    return replace(chosen or EventFilter(), start_time_ns=since_ns, end_time_ns=until_ns)


def _write(path: Path, jpeg: bytes) -> None:
    write_whole(path, jpeg)
    typer.echo(f"{path}: {len(jpeg)} bytes")
