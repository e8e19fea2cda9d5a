"""Ranges for profilers: switched off they do nothing, switched on they open and close what they should."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from vedette_engines.gpu import nvtx
from vedette_engines.gpu.nvtx import nvtx_range

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeDomain:
    """Notes by thread what is open, as the library keeps it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: list[str] = []
        self.said: list[tuple[str, str]] = []
        self._open = threading.local()

    def get_event_attributes(self, message: str, color: str) -> str:
        self.made.append(f"{message} {color}")
        return message

    def push_range(self, attributes: str) -> None:
        self._stack.append(attributes)
        self.said.append((threading.current_thread().name, f"+{attributes}"))

    def pop_range(self) -> None:
        self.said.append((threading.current_thread().name, f"-{self._stack.pop()}"))

    @property
    def _stack(self) -> list[str]:
        return self._open.__dict__.setdefault("stack", [])


class FakeLibrary:
    def __init__(self) -> None:
        self.domains: list[FakeDomain] = []

    def get_domain(self, name: str) -> FakeDomain:
        self.domains.append(FakeDomain(name))
        return self.domains[-1]


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    nvtx.switch_off()


@pytest.fixture
def domain() -> FakeDomain:
    library = FakeLibrary()
    assert nvtx.switch_on(library)
    return library.domains[0]


def test_switched_off_a_range_is_one_and_the_same_nothing_and_needs_no_library() -> None:
    assert nvtx_range("decode") is nvtx_range("compute")
    with nvtx_range("decode") as given, nvtx_range("decode"):
        assert given is None
    with pytest.raises(KeyError), nvtx_range("decode"):
        raise KeyError


def test_ranges_nest_and_close_in_order_in_the_domain_of_ours(domain: FakeDomain) -> None:
    with nvtx_range("decode"), nvtx_range("convert"):
        pass
    assert domain.name == "vedette"
    assert [what for _, what in domain.said] == ["+decode", "+convert", "-convert", "-decode"]


def test_a_range_closes_when_its_stage_fails(domain: FakeDomain) -> None:
    with pytest.raises(ValueError, match="broken"), nvtx_range("compute"):
        raise ValueError("broken")
    assert [what for _, what in domain.said] == ["+compute", "-compute"]


def test_a_name_is_made_once_and_what_is_no_stage_is_grey(domain: FakeDomain) -> None:
    for name in ("upload", "other", "upload", "other"):
        with nvtx_range(name):
            pass
    assert domain.made == ["upload blue", "other grey"]


def test_threads_open_the_same_range_side_by_side(domain: FakeDomain) -> None:
    both = threading.Barrier(2, timeout=10)

    def work() -> None:
        for _ in range(20):
            with nvtx_range("decode"):
                both.wait()

    threads = [threading.Thread(target=work, name=f"t{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("t0", "t1"):
        assert [what for who, what in domain.said if who == name] == ["+decode", "-decode"] * 20


def test_without_the_package_nothing_is_marked_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with caplog.at_level(logging.WARNING, "vedette_engines"):
        assert not nvtx.switch_on()
    assert "the package nvtx cannot be imported" in caplog.text
    with nvtx_range("decode"):
        pass


def test_the_real_package_takes_what_is_asked_of_it() -> None:
    real: Any = pytest.importorskip("nvtx", reason="the package nvtx is not installed")
    assert nvtx.switch_on(real)
    for name in ("decode", "convert", "upload", "compute", "download", "verdict", "other"):
        with nvtx_range(name), nvtx_range(name):
            pass
    # Its stand-in without a profiler takes the same.
    lib = importlib.import_module("nvtx._lib.lib")
    for kind in (lib.Domain, lib.DummyDomain):
        assert all(hasattr(kind, call) for call in ("get_event_attributes", "push_range", "pop_range"))
