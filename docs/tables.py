"""Write the tables of the documentation that say what the code says.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. `python docs/tables.py` writes them all anew,
with `--check` it only tells which differ; a test runs the check.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.data.times import StageTimes
from vedette_server.errors import RefusedError
from vedette_server.gpu_metrics import GPU_FIGURES, GpuSample, families
from vedette_server.metrics import EngineDepths, Metrics
from vedette_server.metrics_monitoring import MonitoringExporter, one_of_each
from vedette_server.rpc.status import canonical_code
from vedette_server.settings import MetricsSettings
from vedette_server.settings_options import options
from vedette_server.settings_page import toml
from vedette_server.worker_words import Past

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "server/vedette_server"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """Every setting: key, default, what is allowed, flag, help."""
    rows = [
        (
            f"`{option.name}`",
            f"`{toml(option.default)}`",
            option.allowed(),
            f"`{option.flag}`" + (f" ({option.flag_unit})" if option.flag_unit else ""),
            option.help,
        )
        for option in options()
    ]
    return _table(("setting", "default", "allowed", "flag", "what it does"), rows)


def reasons() -> str:
    """Every reason for a skip, with its comment in the contract."""
    proto = (ROOT / "proto/vedette/v1/analysis.proto").read_text(encoding="utf-8")
    told = re.findall(r"// (.*)\n  SKIP_REASON_(\w+) = (\d+);", proto)
    return _table(("reason", "number", "why"), [(f"`{name}`", number, why) for why, name, number in told[1:]])


def errors() -> str:
    """Every way in which a call ends with an error: code, meaning, reasons."""
    found = sorted(refusals(), key=lambda pair: (canonical_code(pair[0]("", "")).value[0], pair[1]))
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for kind, reason in found:
        code = canonical_code(kind("", "")).name
        base = next(cls for cls in kind.__mro__ if RefusedError in cls.__bases__)
        for told, text in zip(
            rows.setdefault(code, ([], [])), ((base.__doc__ or "").strip(), f"`{reason}`"), strict=True
        ):
            if text not in told:
                told.append(text)
    return _table(
        ("code", "meaning", "reasons"),
        [(f"`{code}`", " ".join(texts), ", ".join(names)) for code, (texts, names) in rows.items()],
    )


def metrics() -> str:
    """Every metric of ours: name, type, labels, help."""
    with Metrics(MetricsSettings(port="off")) as source:
        channel = source.channel("one", "person")
        channel.verdict(SkipReason.STALE, StageTimes())
        engine = source.engine("person", "1")
        engine.watch(EngineDepths)
        engine.runs("any", "")
        engine.fed(Counter(slot=1))
        source.watch_gpu(0, float)
        source.route("person")
        source.refused("ANY")
        source.restarted(Past({}, "SIGSEGV", 1.0))
        gpu = GpuSample(0, "GPU-0", throttled={"thermal": False}, **dict.fromkeys(GPU_FIGURES, 0.0))
        rows = []
        monitoring = MonitoringExporter(one_of_each).collect()
        for family in (*source.registry.collect(), *families([(False, gpu)]), *monitoring):
            if family.name.startswith("vedette_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
                rows.append((f"`{name}`", family.type, ", ".join(labels), family.documentation))
    return _table(("metric", "type", "labels", "what it counts"), rows)


WRITERS = {"settings": settings, "reasons": reasons, "errors": errors, "metrics": metrics}


def refusals() -> set[tuple[type[RefusedError], str]]:
    """Read off the server's source which refusals there are: class and reason."""
    found: set[tuple[type[RefusedError], str]] = set()
    for path in sorted(SERVER.rglob("*.py")):
        name = ".".join(("vedette_server", *path.relative_to(SERVER).with_suffix("").parts))
        # Only Alembic can import a migration.
        if path.name in {"__main__.py", "__init__.py"} or "migrations" in path.parts:
            continue
        module = importlib.import_module(name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for called, arguments in _calls(tree):
            kind = getattr(module, called, None)
            if isinstance(kind, type) and issubclass(kind, RefusedError):
                found |= {(kind, reason) for reason in _reasons(arguments[:1], tree)}
            elif called in {"_refuse", "_member"}:
                # The helpers of convert_config.py; the reason is the only argument in capitals.
                found |= {(module.InvalidError, reason) for reason in _reasons(arguments, tree)}
    return found


def _calls(tree: ast.AST) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.args


def _reasons(arguments: Iterable[ast.expr], tree: ast.AST) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, ast.Constant) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", str(argument.value)):
            yield str(argument.value)
        elif isinstance(argument, ast.JoinedStr) and ast.unparse(argument) == "f'INVALID_{field.upper()}'":
            yield from (f"INVALID_{field.upper()}" for field in _fields(argument, tree))


def _fields(inside: ast.AST, tree: ast.AST) -> Iterator[str]:
    """Tell which field names the function around a node is called with."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    around = {function.name for function in functions if any(node is inside for node in ast.walk(function))}
    for called, arguments in _calls(tree):
        if called in around:
            names = (str(one.value) for one in arguments if isinstance(one, ast.Constant))
            yield from (name for name in names if re.fullmatch(r"[a-z_]+", name))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def renewed(text: str) -> str:
    """Return a page with all its tables written anew."""
    return TABLE.sub(lambda match: match[1] + WRITERS[match[2]]() + match[3], text)


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if renewed(text) != text:
            stale.append(path.name)
            if not check:
                path.write_text(renewed(text), encoding="utf-8")
    print(f"{len(stale)} pages {'differ, run `make docs`:' if check else 'written'}", *stale)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
