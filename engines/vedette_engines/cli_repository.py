"""The commands `vedette engine diff`, `rollback`, `restore`, `history` and `gc`, on engines in folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_engines.cli_page import readable_bytes
from vedette_engines.cli_roots import DEFAULT_ROOT, VARIABLE, user_roots
from vedette_engines.collecting import collect_garbage
from vedette_engines.diff import diff_bundles
from vedette_engines.errors import EngineNotFoundError, ImportInputError
from vedette_engines.history import read_history
from vedette_engines.manifest import NAME_PATTERN
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.rollback import roll_back
from vedette_engines.withdrawn import restore, withdrawal_reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

EnginesDir = Annotated[
    list[Path] | None,
    typer.Option(
        "--engines-dir",
        metavar="DIR",
        help=f"Where the engines are; may be repeated. Default: ${VARIABLE}, else {DEFAULT_ROOT}.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The engine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it for programs.")]


def diff_command(
    one: Annotated[str, typer.Argument(metavar="A", help="NAME[@VERSION]: the first engine.")],
    other: Annotated[str, typer.Argument(metavar="B", help="NAME[@VERSION] or @VERSION: the second.")],
    engines_dir: EnginesDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell in what two engines differ: description, labels, files, plans, measured figures, provenance."""
    repository = EngineRepository([*user_roots(engines_dir), boxed_root()])
    name, _, version = one.partition("@")
    second, _, second_version = other.partition("@")
    a, b = repository.resolve(name, version), repository.resolve(second or name, second_version)
    differences = diff_bundles(a, b)
    if as_json:
        typer.echo(json.dumps([asdict(difference) for difference in differences], ensure_ascii=False, indent=1))
        return
    typer.echo(f"{a.name} {a.version} -> {b.name} {b.version}")
    typer.echo("\n".join(f"  {difference}" for difference in differences) or "  no difference")


def rollback_command(
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="Default: the version before.")] = "",
    engines_dir: EnginesDir = None,
) -> None:
    """Withdraw the newest version, or all that are newer than --to; who names a version still gets it."""
    before, after = roll_back(_root_of(name, user_roots(engines_dir)), name, to)
    typer.echo(f"{name}: rolled back from {before} to {after}; `vedette engine restore {name}@{before}` undoes it")


def restore_command(
    name: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The engine's version.")],
    engines_dir: EnginesDir = None,
) -> None:
    """Offer a withdrawn version again."""
    engine, _, version = name.partition("@")
    if not version:
        raise ImportInputError(f"{name!r} names no version; allowed is NAME@VERSION")
    restore(_root_of(engine, user_roots(engines_dir)), engine, version)
    typer.echo(f"{engine} {version}: offered")


def history_command(name: Name, engines_dir: EnginesDir = None, as_json: AsJson = False) -> None:
    """Show when versions of an engine were published, withdrawn, restored and removed, and by whom."""
    root = _root_of(name, user_roots(engines_dir))
    events, damaged = read_history(root, name)
    if as_json:
        typer.echo("\n".join(json.dumps(asdict(event), ensure_ascii=False) for event in events))
    else:
        for event in events:
            line = f"{event.time}  {event.action:<9}{event.version:<12}{event.user:<12}{event.tool}  {event.detail}"
            typer.echo(line.rstrip())
        for version, reason in withdrawal_reasons(root, name).items():
            typer.echo(f"withdrawn now: {version}" + (f" ({reason})" if reason else ""))
    if damaged:
        typer.echo(f"{damaged} lines could not be read", err=True)


def gc_command(
    keep: Annotated[int, typer.Option("--keep", help="Versions of each engine that stay, the newest.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, only tell.")] = False,
    bad: Annotated[bool, typer.Option("--bad", help="Remove bad bundles, too.")] = False,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Remove withdrawn versions, too.")] = False,
    need: Annotated[
        list[str] | None, typer.Option("--need", metavar="NAME@VERSION", help="Stays; may be repeated.")
    ] = None,
    engines_dir: EnginesDir = None,
) -> None:
    """Remove old versions, and what publications that died left behind."""
    needed = [(name, version) for name, _, version in (word.partition("@") for word in need or ())]
    if any(not version for _, version in needed):
        raise ImportInputError(f"--need is {need}; allowed is NAME@VERSION")
    total = 0
    for root in user_roots(engines_dir):
        for removed in collect_garbage(root, keep, dry_run=dry_run, bad=bad, withdrawn=withdrawn, needed=needed):
            total += removed.size_bytes
            typer.echo(f"{removed.path}: {removed.reason}, {readable_bytes(removed.size_bytes)}")
    typer.echo(f"{readable_bytes(total)} {'would be given back' if dry_run else 'given back'}")


def _root_of(name: str, roots: Sequence[Path]) -> Path:
    """Find the root that has an engine; what comes in the box cannot be changed."""
    known = NAME_PATTERN.fullmatch(name) is not None
    for root in roots:
        if known and (root / name).is_dir():
            return root
    if known and (boxed_root() / name).is_dir():
        raise EngineNotFoundError(f"engine {name!r} comes in the box; only engines in {_listed(roots)} can be changed")
    raise EngineNotFoundError(f"no engine is named {name!r} in {_listed(roots)}")


def _listed(roots: Sequence[Path]) -> str:
    return ", ".join(map(str, roots))
