"""Check a `torch.export` archive before torch reads it: reading one can run what stands in it.

`torch.export.load` unpickles example inputs and some weights, resolves the operators' names as attributes of the
module torch (`torch.os` is one), and lets SymPy evaluate the expressions of sizes. Each of these is checked here
against a list of what the exporter writes.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from vedette_engines.errors import ImportInputError
from vedette_engines.sources.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision|quantized_decomposed)(\.\w+){1,2}"
    r"|torch\.(sym_\w+|_check\w*|_assert\w*)|torch\._higher_order_ops\.\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|lshift|rshift)"
    r"|math\.\w+"
)
_MEMBERS = re.compile(
    r"(models/\w+\.json|data/weights/(weight_\d+|\w+\.json)|data/constants/(tensor_\d+|\w+\.json)"
    r"|data/sample_inputs/\w+\.pt|archive_format|archive_version|version|byteorder|\.data/\w+|extra/.*"
    r"|\.format_version|\.storage_alignment|data/(weights|constants)/\w+\.pt"
    r"|serialized_\w+\.(json|pt)|extra_files/.*)"
)
_SIZE_FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Max", "Min", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or"),
    *("Not", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt"),
    *("CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat"),
    *("TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "Pow", "Add", "Mul", "floor", "ceiling"),
    *("BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or", "IsNonOverlappingAndDenseIndicator"),
}
_SYMBOL = re.compile(r"[suz]\w{0,3}\d+|zoo|oo|int_oo|True|False")
_PLAIN = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.BoolOp),
    *(ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_GUARD_NAMES = {"L", "math"}


def check_program(path: Path) -> None:
    """Refuse an archive whose reading could run code.

    Raises:
        ImportInputError: It could; the message names the member. Or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive)
            folder = _folder(archive)
            names = archive.namelist()
            # Two readers may disagree about which of two members of one name counts.
            if len(set(names)) != len(names):
                raise _refused(path, "a member stands twice in it")
            for name in names:
                inner = name.removeprefix(folder)
                if not _MEMBERS.fullmatch(inner):
                    raise _refused(path, f"{name} is nothing that torch.export writes for a plain program")
                if inner.endswith((".json", ".pt")) and not inner.startswith(("extra/", "extra_files/")):
                    _check_member(path, inner, archive.read(name))
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, OSError, ValueError) as error:
        raise ImportInputError(f"{path}: is damaged: {str(error)[:200]}") from error


def _check_size(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what would unpack to more than the file is: torch writes members side by side, as they are."""
    total = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if total > size:
        raise ImportInputError(
            f"{path}: unpacks to {total} bytes, but has only {size}: torch.export compresses nothing; if it was packed "
            "again, save it again; refused without --trust"
        )


def _folder(archive: zipfile.ZipFile) -> str:
    """Tell the folder in which torch wrote everything; an older format has none."""
    first = {name.partition("/")[0] for name in archive.namelist()}
    return f"{first.pop()}/" if len(first) == 1 else ""


def _check_member(path: Path, name: str, content: bytes) -> None:
    if name.endswith(".json"):
        for key, value in _strings(json.loads(content)):
            _check_text(path, name, key, value)
        for member in _pickled(json.loads(content)):
            raise _refused(path, f"{member} is pickled")
    elif content:
        try:
            with quiet():
                torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:  # whatever it is, torch would go on to unpickle it
            raise _refused(path, f"{name} is a pickle with more than tensors in it") from error


def _pickled(value: Any) -> Iterator[str]:
    """Name the tensors that a list of weights says are pickled."""
    for entry in value.get("config", {}).values() if isinstance(value, dict) else ():
        if isinstance(entry, dict) and entry.get("use_pickle"):
            yield str(entry.get("path_name"))


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _strings(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, key)


def _check_text(path: Path, member: str, key: str, value: str) -> None:
    if key == "target" and not _OPERATOR.fullmatch(value):
        raise _refused(path, f"{member} calls {value!r}")
    if key == "expr_str" and not _is_size(value):
        raise _refused(path, f"{member} has the size {value[:80]!r}")
    if key == "guards_code" and not _is_guard(value):
        raise _refused(path, f"{member} has the guard {value[:80]!r}")


def _is_size(text: str) -> bool:
    """Tell whether an expression is arithmetic over symbols: nothing that evaluating could do harm with."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if not isinstance(node, _PLAIN):
            return False
        if isinstance(node, ast.Name) and not (
            node.id in _SIZE_FUNCTIONS if id(node) in called else _SYMBOL.fullmatch(node.id)
        ):
            return False
        # What stands in quotes is evaluated once more.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value):
            return False
    return True


def _is_guard(text: str) -> bool:
    """Tell whether a guard only compares the inputs' sizes."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in nodes:
        if isinstance(node, ast.Attribute):
            if node.attr not in {"size", "stride", "storage_offset", "inf", "isnan"}:
                return False
        elif isinstance(node, ast.Name):
            if node.id not in _GUARD_NAMES:
                return False
        elif not isinstance(node, (*_PLAIN, ast.Subscript, ast.Tuple, ast.List)):
            return False
    return True


def _refused(path: Path, reason: str) -> ImportInputError:
    return ImportInputError(f"{path}: reading it could run code: {reason}; refused without --trust")
