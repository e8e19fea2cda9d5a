"""Give a command that talks to a server its connection options, and run it on an event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from vedette_client.cli import reach as to

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vedette_client.client import Client

P = ParamSpec("P")

_OPTIONS: tuple[tuple[str, Any, Any], ...] = (
    ("server", to.Server, to.DEFAULT_SERVER),
    ("tls", to.Tls, False),
    ("tls_ca", to.TlsCa, None),
    ("tls_cert", to.TlsCert, None),
    ("tls_key", to.TlsKey, None),
    ("token", to.Token, None),
)


def connected(command: Callable[Concatenate[Client, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a command for typer of a coroutine that takes a client and the command's own options.

    The options that say which server, and how to be let in, are added behind its own.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        reached = to.reach(*(kwargs.pop(name) for name, _, _ in _OPTIONS))

        async def talk() -> None:
            async with reached.client() as client:
                await command(client, *args, **kwargs)

        asyncio.run(talk())

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, kind, default in _OPTIONS
    ]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {}  # typer reads the signature; these would name the client
    return run
