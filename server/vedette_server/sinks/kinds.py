"""Finds the kind of sink that a table of settings names: ours, or an installed plug-in."""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from vedette_server.errors import SettingsError
from vedette_server.sinks.base import ENTRY_POINTS
from vedette_server.sinks.plain import tell_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.sinks.base import Sink, SinkContext, SinkFactory
    from vedette_server.sinks.settings import Wanted
    from vedette_server.sinks.table import Table

    # Takes its keys out of a table and gives what makes the sink.
    Reader = Callable[[Table, Wanted], Callable[[SinkContext], Sink]]


def _webhook(table: Table, _wanted: Wanted) -> Callable[[SinkContext], Sink]:
    from vedette_server.sinks.webhook import WebhookSink  # noqa: PLC0415 - its library
    from vedette_server.sinks.webhook_settings import read_webhook  # noqa: PLC0415 - its library

    settings = read_webhook(table)

    def make(context: SinkContext) -> Sink:
        tell_plain(context.name, settings.host, settings.readable)
        return WebhookSink(settings)

    return make


def _mqtt(table: Table, wanted: Wanted) -> Callable[[SinkContext], Sink]:
    from vedette_server.sinks.mqtt import MqttSink  # noqa: PLC0415 - its library
    from vedette_server.sinks.mqtt_settings import read_mqtt  # noqa: PLC0415 - its library

    settings = read_mqtt(table, wanted)

    def make(context: SinkContext) -> Sink:
        tell_plain(context.name, settings.host, settings.readable)
        return MqttSink(settings, wanted, context)

    return make


def _jsonl(table: Table, _wanted: Wanted) -> Callable[[SinkContext], Sink]:
    from vedette_server.sinks.jsonl import JsonlSink, read_jsonl  # noqa: PLC0415 - its library

    settings = read_jsonl(table)
    return lambda _context: JsonlSink(settings)


_OURS: dict[str, Reader] = {"webhook": _webhook, "mqtt": _mqtt, "jsonl": _jsonl}


def factory_of(kind: str, table: Table) -> Reader:
    """Give what reads a kind's keys.

    Raises:
        SettingsError: There is no such kind, two plug-ins have its name, or it cannot be loaded.
    """
    found = list(metadata.entry_points(group=ENTRY_POINTS, name=kind))
    if kind in _OURS:
        if found:
            raise SettingsError(f"{table.where}: the plug-in {kind!r} of {found[0].value} has a name that is taken")
        return _OURS[kind]
    if not found:
        installed = sorted(metadata.entry_points(group=ENTRY_POINTS).names)
        table.refuse("kind", kind, ", ".join([*_OURS, *installed]))
    if len(found) > 1:
        raise SettingsError(f"{table.where}: kind {kind!r} is of {', '.join(sorted(one.value for one in found))}")
    try:
        factory: SinkFactory = found[0].load()
    except Exception as error:
        raise SettingsError(f"{table.where}: the plug-in {found[0].value} cannot be loaded: {error!r}") from error
    return partial(_plug_in, factory)


def _plug_in(factory: SinkFactory, table: Table, _wanted: Wanted) -> Callable[[SinkContext], Sink]:
    values, where = table.rest(), table.where

    def make(context: SinkContext) -> Sink:
        try:
            return factory(values, context)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error
        except Exception as error:
            raise SettingsError(f"{where}: the plug-in cannot make its sink: {error!r}") from error

    return make
