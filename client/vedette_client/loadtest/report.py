"""A load test's figures as plain data for a JSON file.

The page has these keys:

- `circumstances`: when, where and with which versions it was run
- `plan`: server, channels, fps, duration_s, sources, engines, policy, jitter_s, reconnect_every_s, processes,
  per_connection, seed
- `figures`: counts, latency, cdf, stages, batches, accounts, fairness, truth, seconds, tester, server, storms;
  see `statistics.Summary`. Milliseconds throughout; latency is the age of an analysed frame at its verdict, counted
  from when it was due to be sent
- `search`, with `--search`: `objective`, `channels` (the most that held it), `limited`, and `steps`, each with
  `channels`, `held`, `misses` and its own `figures`
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vedette_client.credentials import without_password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.loadtest.circumstances import Circumstances
    from vedette_client.loadtest.plan import LoadPlan
    from vedette_client.loadtest.search import Found, Objective, Step
    from vedette_client.loadtest.statistics import Summary


@dataclass(frozen=True, slots=True)
class Searched:
    """How a search went.

    Attributes:
        objective: What was to be held.
        found: What it found.
        steps: Its load tests in order.
    """

    objective: Objective
    found: Found
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of a load test.

    Attributes:
        around: The circumstances.
        plan: What was sent; after a search, of the largest test that held.
        summary: The figures.
        searched: The search that led to it; None without one.
    """

    around: Circumstances
    plan: LoadPlan
    summary: Summary
    searched: Searched | None = None


def to_json(report: Report) -> dict[str, Any]:
    """Make plain data of a report."""
    page = {
        "circumstances": asdict(report.around),
        "plan": plan_facts(report.plan),
        "figures": asdict(report.summary),
    }
    if report.searched is not None:
        searched = report.searched
        page["search"] = {
            "objective": asdict(searched.objective),
            "channels": searched.found.channels,
            "limited": searched.found.limited,
            "steps": [
                {"channels": s.channels, "held": s.held, "misses": s.misses, "figures": asdict(s.summary)}
                for s in searched.steps
            ],
        }
    return page


def plan_facts(plan: LoadPlan) -> dict[str, Any]:
    """Tell a plan without what lets one in."""
    return {
        "server": plan.reach.address,
        "tls": plan.reach.tls is not None,
        "channels": plan.channels,
        "fps": plan.fps,
        "duration_s": plan.duration_s,
        "sources": [without_password(source) for source in plan.sources],
        "engines": list(plan.options.engines),
        "policy": plan.options.policy.name,
        "jitter_s": plan.jitter_s,
        "reconnect_every_s": plan.reconnect_every_s,
        "processes": plan.processes,
        "per_connection": plan.per_connection,
        "seed": plan.seed,
    }
