"""What a session's frames are bound to now, and what they were bound to before.

Pure code: the session's lock is held around every change; the binding may be read at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.data.config import EngineRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Binding


class Bound:
    """The binding of one session.

    Args:
        bind: Builds a binding; raises InvalidError where configuration and engines do not fit.
        config: The first configuration.
        inferences: What runs its engines at first.

    Attributes:
        now: What frames are bound to whose turn comes now.
        versions: All versions that frames were ever bound to.
    """

    def __init__(
        self,
        bind: Callable[[ChannelConfig, tuple[InferenceClient, ...]], Binding],
        config: ChannelConfig,
        inferences: tuple[InferenceClient, ...],
    ) -> None:
        self._bind = bind
        self.versions: set[EngineRef] = set()
        self.now: Binding
        self.change(config, inferences)

    def change(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> None:
        """Bind anew.

        Raises:
            InvalidError: Configuration and engines do not fit; nothing has changed.
        """
        self.now = self._bind(config, inferences)
        self.versions |= {EngineRef(inference.label.name, inference.label.version) for inference in inferences}
