"""Where engines are found: roots with NAME/VERSION/engine.toml.

An earlier root hides the same name and version in a later one. A bad bundle is reported, with its reason, and hides
nothing: neither a good one of the same version in a later root, nor older versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.bundle import Bundle, load_bundle
from vedette_engines.errors import BundleError, EngineNotFoundError
from vedette_engines.manifest import MANIFEST_NAME
from vedette_engines.withdrawn import withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)(.*)", re.DOTALL)
_Fingerprint = tuple[tuple[str, int, int, int], ...]
_RUNS = re.compile(r"\d+|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Listed:
    """One bundle that was found.

    Attributes:
        name: The outer folder's name.
        version: The inner folder's name.
        path: The folder.
        bundle: The checked bundle; None when it is bad.
        reason: Why it is bad; empty when it is good.
        withdrawn: It is given to those only who name it.
    """

    name: str
    version: str
    path: Path
    bundle: Bundle | None
    reason: str = ""
    withdrawn: bool = False


def version_key(version: str) -> tuple[object, ...]:
    """Order versions as people read them: 10 after 9, 1.0 after 1.0rc1, 1.0.post1 after 1.0.

    A version without a leading number stands before all that have one.
    """
    match = _RELEASE.match(version)
    if match is None:
        return ((), 0, _runs(version), version)
    release = [int(part) for part in match[1].split(".")]
    while release and release[-1] == 0:
        release.pop()
    suffix = _runs(match[2].lower())
    words = [run for _, _, run in suffix if run]
    # As in PEP 440: a development or pre-release comes before the release, a post-release or a local part after it.
    if words and words[0] == "dev":
        rank = -2
    elif words and words[0] in {"a", "alpha", "b", "beta", "c", "rc", "pre", "preview"}:
        rank = -1
    else:
        rank = 1 if suffix else 0
    return ((1, *release), rank, suffix, version)


def _runs(text: str) -> tuple[tuple[int, int, str], ...]:
    """Split into runs of digits and of letters, each as something that compares with any other."""
    return tuple((1, int(run), "") if run.isdigit() else (0, 0, run) for run in _RUNS.findall(text))


class EngineRepository:
    """The engines in some roots.

    What is published later is found without a restart. A bundle is checked again only when its files have changed
    (by time, size and inode), so that resolving costs no hash of a large model each time. Any thread may call it.

    Args:
        roots: Folders with NAME/VERSION/engine.toml; the first that has an engine wins. Missing ones are empty.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._checked: dict[Path, tuple[_Fingerprint, Listed]] = {}

    def list(self, name: str = "") -> tuple[Listed, ...]:
        """Check all bundles, or those of one engine: by name, the newest version first; bad ones with their reason.

        Where the marks of an engine cannot be read, all its versions count as withdrawn.
        """
        folders = [path for path in self._folders() if name in {"", path.parent.name}]
        marks = {engine: self._withdrawn(engine) for engine in {path.parent.name for path in folders}}
        entries = [
            replace(self._check(path), withdrawn=(marked := marks[path.parent.name]) is None or path.name in marked)
            for path in folders
        ]
        good: dict[tuple[str, str], Path] = {}
        for entry in entries:
            if entry.bundle is not None:
                good.setdefault((entry.name, entry.version), entry.path)
        return tuple(
            entry for entry in entries if entry.bundle is None or good[entry.name, entry.version] == entry.path
        )

    def resolve(self, name: str, version: str = "") -> Bundle:
        """Load one engine; an empty version means the newest that is good and not withdrawn.

        Raises:
            EngineNotFoundError: There is none, or all are withdrawn; the message lists what there is.
            BundleError: What there is, is bad; the newest's reason. Or it cannot be told what is withdrawn.
        """
        folders = self._folders()
        of_name = [path for path in folders if path.parent.name == name]
        if not of_name:
            names = ", ".join(sorted({path.parent.name for path in folders}))
            raise EngineNotFoundError(f"no engine is named {name!r}; there are: {names or 'none'}")
        have = ", ".join(path.name for path in of_name)
        if version:
            wanted = [path for path in of_name if path.name == version]
            if not wanted:
                raise EngineNotFoundError(f"engine {name!r} has no version {version!r}; there are: {have}")
        else:
            marked = {entry for root in self._roots for entry in withdrawn(root, name)}
            wanted = [path for path in of_name if path.name not in marked]
            if not wanted:
                raise EngineNotFoundError(
                    f"all versions of engine {name!r} are withdrawn ({have}); name one, or restore it with "
                    f"`vedette engine restore {name}@VERSION`"
                )
        for path in wanted:
            entry = self._check(path)
            if entry.bundle is not None:
                return entry.bundle
        raise BundleError(self._check(wanted[0]).reason)

    def _withdrawn(self, name: str) -> frozenset[str] | None:
        """Tell which versions are withdrawn in any of the roots; None where that cannot be read."""
        try:
            return frozenset[str]().union(*(withdrawn(root, name) for root in self._roots))
        except BundleError:
            return None

    def _check(self, path: Path) -> Listed:
        before: _Fingerprint = ()
        try:
            before = _fingerprint(path)
            known = self._checked.get(path)
            if known is None or known[0] != before:
                known = (before, Listed(path.parent.name, path.name, path, load_bundle(path)))
                self._checked[path] = known
        except (BundleError, OSError) as error:
            bad = Listed(path.parent.name, path.name, path, None, str(error))
            if isinstance(error, BundleError) and not isinstance(error.__cause__, OSError):
                # A bad one is read again when it has changed, not each time somebody looks.
                self._checked[path] = (before, bad)
            return bad
        return known[1]

    def _folders(self) -> Sequence[Path]:
        """Find the bundles' folders: by name, the newest version first, then in the order of the roots."""
        found = [path for root in self._roots for path in sorted(_bundles_in(root))]
        found.sort(key=lambda path: version_key(path.name), reverse=True)
        found.sort(key=lambda path: path.parent.name)
        return found


def _fingerprint(path: Path) -> _Fingerprint:
    """Tell the state of a folder's files without reading them."""
    states = [(file.name, file.stat()) for file in sorted(path.iterdir())]
    return tuple((name, state.st_mtime_ns, state.st_size, state.st_ino) for name, state in states)


def _bundles_in(root: Path) -> Iterator[Path]:
    """Find the folders with a manifest; hidden ones are drafts of a writer."""
    for engine in _visible(root):
        yield from (version for version in _visible(engine) if (version / MANIFEST_NAME).exists())


def _visible(folder: Path) -> Sequence[Path]:
    """List a folder; one that is none, or that a collector takes away meanwhile, is empty."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def boxed_root() -> Path:
    """Tell where the engines are that come with the package."""
    return Path(str(resources.files("vedette_engines") / "boxed"))
