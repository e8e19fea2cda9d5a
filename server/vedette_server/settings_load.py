"""Read the settings once: defaults, then a TOML file, then the environment, then flags.

Later sources win, value by value; a list is replaced as a whole. Unknown keys are refused in the file and
in the environment, wrong values with a message that names the source, the key, the value and what is
allowed. Called by the command line before anything else is built.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any, get_type_hints

from vedette_server.errors import SettingsError
from vedette_server.settings import Settings
from vedette_server.settings_options import Option, options
from vedette_server.settings_texts import read_provider_option, read_weight
from vedette_server.shown import as_typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# A worker beats once a second.
LEAST_HANG_S = 3.0
_ENGINE = re.compile(r"[A-Za-z0-9._+-]+(@[A-Za-z0-9._+-]+)?")


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Merge all sources into checked settings.

    Args:
        file: TOML with one table per section; None: no file.
        environ: The environment: `VEDETTE_SECTION_KEY`; an empty variable counts as absent.
        flags: Values by `section.key`; None counts as absent.

    Raises:
        SettingsError: A source cannot be read, names an unknown key or has a value that is not allowed.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(file))
    values.update(_from_environ(environ or {}))
    values.update(_from_flags(flags or {}))
    sections = {
        section: kind(**{name.partition(".")[2]: value for name, value in values.items() if _in(section, name)})
        for section, kind in get_type_hints(Settings).items()
    }
    settings = Settings(**sections)
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse settings that are allowed one by one, but not together.

    Raises:
        SettingsError: Names the keys and what is allowed.
    """
    steps = (
        _check_tls,
        _check_exposure,
        _check_sizes,
        _check_preload,
        _check_weights,
        _check_provider_options,
        _check_devices,
        _check_supervise,
    )
    for step in steps:
        step(settings)


def _in(section: str, name: str) -> bool:
    return name.partition(".")[0] == section


def _from_file(file: Path) -> dict[str, Any]:
    source = f"file {file}"
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{source}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: not TOML: {error}") from error
    known = {option.name: option for option in options()}
    values: dict[str, Any] = {}
    for section, table in tables.items():
        _refuse_unknown(section, get_type_hints(Settings), f"{source}: unknown section")
        if not isinstance(table, dict):
            raise SettingsError(f"{source}: {section} is {as_typed(table)}; allowed: a table, [{section}]")
        for key, value in table.items():
            keys = [option.key for option in options() if option.section == section]
            _refuse_unknown(key, keys, f"{source}: unknown key in [{section}]")
            values[f"{section}.{key}"] = known[f"{section}.{key}"].from_toml(value, source, file.parent)
    return values


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {variable: option for option in options() for variable in option.variables}
    prefixes = tuple(f"VEDETTE_{section.upper()}_" for section in get_type_hints(Settings))
    values: dict[str, Any] = {}
    named: dict[str, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(prefixes) or not environ[variable]:
            continue
        _refuse_unknown(variable, by_variable, "environment: unknown variable")
        option = by_variable[variable]
        if option.name in named:
            raise SettingsError(
                f"environment: {named[option.name]} and {variable} both set {option.name}; allowed: one"
            )
        named[option.name] = variable
        values[option.name] = option.from_text(environ[variable], f"environment {variable}")
    return values


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    known: dict[str, Option] = {option.name: option for option in options()}
    values: dict[str, Any] = {}
    for name, value in flags.items():
        _refuse_unknown(name, known, "flags: unknown option")
        if value is not None:
            values[name] = known[name].from_flag(value, known[name].flag)
    return values


def _refuse_unknown(name: str, known: Iterable[str], what: str) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near and len(names) > 16 else f"allowed: {', '.join(names)}"
    if len(names) > 16 and not near:
        hint = "`vedette serve --print-settings` lists all"
    raise SettingsError(f"{what} {name!r}; {hint}")


def _check_tls(settings: Settings) -> None:
    tls = settings.tls
    if (tls.certificate is None) != (tls.key is None):
        given, missing = ("key", "certificate") if tls.certificate is None else ("certificate", "key")
        raise SettingsError(f"tls.{given} is given without tls.{missing}; allowed: both or neither")
    if tls.client_ca is not None and tls.certificate is None:
        raise SettingsError("tls.client_ca is given without tls.certificate and tls.key; allowed: with both")


def _check_exposure(settings: Settings) -> None:
    """Let nobody listen to the world by accident."""
    server, tls = settings.server, settings.tls
    if re.search(r"\s", server.host):
        raise SettingsError(f"server.host is {server.host!r}; allowed: a host name or an IP address")
    if server.is_loopback or server.insecure:
        return
    missing = []
    if tls.certificate is None:
        missing.append("TLS (--tls-cert and --tls-key)")
    if tls.client_ca is None and settings.auth.tokens_file is None:
        missing.append("a way to know clients (--tokens or --client-ca)")
    if missing:
        raise SettingsError(
            f"server.host is {server.host!r}, which is not loopback, without {' and '.join(missing)}; "
            "allowed: 127.0.0.1, ::1, localhost, or add these, or say --insecure"
        )


def _check_sizes(settings: Settings) -> None:
    packet = settings.server.max_packet_bytes
    for name, size in (
        ("decode.inbox_bytes", settings.decode.inbox_bytes),
        ("channels.window_bytes", settings.channels.window_bytes),
    ):
        if size < packet:
            raise SettingsError(f"{name} is {size}; allowed: at least server.max_packet_bytes, which is {packet}")
    # What a client may send by its credits must find room.
    for key in ("packets", "bytes"):
        room, window = getattr(settings.decode, f"inbox_{key}"), getattr(settings.channels, f"window_{key}")
        if room < window:
            raise SettingsError(
                f"decode.inbox_{key} is {room}; allowed: at least channels.window_{key}, which is {window}"
            )
    drop, jump = settings.decode.drop_disposable_after_s, settings.decode.jump_after_s
    if jump < drop:
        raise SettingsError(f"decode.jump_after_s is {jump}; allowed: at least decode.drop_disposable_after_s, {drop}")


def _check_preload(settings: Settings) -> None:
    for name in settings.engines.preload:
        if not _ENGINE.fullmatch(name):
            raise SettingsError(f"engines.preload has {name!r}; allowed: NAME or NAME@VERSION of A-Z a-z 0-9 . _ + -")


def _check_provider_options(settings: Settings) -> None:
    for text in settings.engines.provider_options:
        try:
            read_provider_option(text)
        except ValueError:
            raise SettingsError(f"engines.provider_options has {text!r}; allowed: PROVIDER.KEY=VALUE") from None


def _check_weights(settings: Settings) -> None:
    named: set[str] = set()
    for text in settings.engines.weights:
        try:
            name, _ = read_weight(text)
        except ValueError:
            raise SettingsError(f"engines.weights has {text!r}; allowed: NAME=WEIGHT, a number above 0") from None
        if name in named:
            raise SettingsError(f"engines.weights has {name} twice; allowed: each engine once")
        named.add(name)


def _check_devices(settings: Settings) -> None:
    devices = settings.engines.devices
    if len(set(devices)) < len(devices):
        raise SettingsError(f"engines.devices is {list(devices)}; allowed: each GPU once")


def _check_supervise(settings: Settings) -> None:
    first, most = settings.supervise.backoff_s, settings.supervise.backoff_max_s
    if most < first:
        raise SettingsError(f"supervise.backoff_max_s is {most}; allowed: at least supervise.backoff_s, {first}")
    hang = settings.supervise.hang_timeout_s
    if 0 < hang < LEAST_HANG_S:
        raise SettingsError(f"supervise.hang_timeout_s is {hang}; allowed: 0 or at least {LEAST_HANG_S:g}")
