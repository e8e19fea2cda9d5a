"""What holds for all tests."""

from __future__ import annotations

import gc
import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Go back to the usual scheduling: SVT-AV1, which makes material, puts its caller on real time where it may."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# Files that take longest, the longest first: begun last, one of them would run alone at the end.
LONGEST = (
    *("test_compare_broken", "test_sources_torch", "test_monitoring", "test_store_faults", "test_resume"),
    *("test_loadtest_run", "test_gpu_serving", "test_supervisor", "test_supervise", "test_monitoring_ways"),
    *("test_watch_service", "test_sinks_mqtt", "test_sinks_delivery", "test_pull_source", "test_pull_puller"),
    *("test_store_chain", "test_cli_demo", "test_cuda_letterbox", "test_heads_auto", "test_monitor_walkers"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish() -> None:
    """Leave what stands now out of garbage collections: there are thousands of tests, and some collect on purpose."""
    gc.collect()
    gc.freeze()
