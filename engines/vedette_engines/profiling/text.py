"""Write a profile for a terminal and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from vedette_engines.profiling.advice import COSTLIEST, Advice, node_advice, operator_advice, profile_advice

if TYPE_CHECKING:
    from vedette_engines.profiling.profile import Measured


def operators_table(measured: Measured) -> Table:
    """Make a table of the costliest operators, each with what to do about it."""
    profile = measured.profile
    title = f"{profile.title} on {profile.runner}, batch {profile.batch}, {profile.threads} threads: operators"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("operator", no_wrap=True)
    for name in ("nodes", "ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("advice", overflow="fold")
    for cost in profile.operators[:COSTLIEST]:
        advice = operator_advice(cost.op, measured)
        share = f"{cost.share:.1%}"
        table.add_row(cost.op, str(cost.nodes), f"{cost.seconds * 1e3:.3f}", share, advice.do if advice else "")
    return table


def nodes_table(measured: Measured) -> Table:
    """Make a table of the costliest nodes, each with what to do about it."""
    profile = measured.profile
    table = Table(title="Costliest nodes", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("node", overflow="fold", max_width=40)
    table.add_column("operator", no_wrap=True)
    for name in ("ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("advice", overflow="fold")
    for node in profile.nodes[:COSTLIEST]:
        advice = node_advice(node, measured)
        share = f"{profile.share(node.seconds):.1%}"
        table.add_row(node.name, node.op, f"{node.seconds * 1e3:.3f}", share, advice.do if advice else "")
    return table


def advices(measured: Measured) -> tuple[Advice, ...]:
    """Gather all advice: about the costliest operators, and about kinds of nodes; the largest share first."""
    costliest = measured.profile.operators[:COSTLIEST]
    found = [operator_advice(cost.op, measured) for cost in costliest]
    everything = [*profile_advice(measured), *(advice for advice in found if advice is not None)]
    return tuple(sorted(everything, key=lambda advice: -advice.share))


def advice_lines(measured: Measured) -> tuple[str, ...]:
    """Write all advice, one line each."""
    return tuple(f"{advice.share:.0%}: {advice.do}. {advice.why}." for advice in advices(measured))


def to_json(measured: Measured) -> str:
    """Write nodes, operators and advice for programs; the single runs are in the trace."""
    profile = measured.profile
    document = {
        "format": 1,
        "title": profile.title,
        "runner": profile.runner,
        "precision": profile.precision,
        "batch": profile.batch,
        "threads": profile.threads,
        "runs": profile.runs,
        "run_s": profile.run_s,
        "nodes_s": profile.nodes_s,
        "operators": [asdict(cost) for cost in profile.operators],
        "nodes": [{**asdict(node), "share": profile.share(node.seconds)} for node in profile.nodes],
        "advice": [asdict(advice) for advice in advices(measured)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
