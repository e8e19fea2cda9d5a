"""Cameras, watching and load tests: the Vedette client.

`Client` is for asyncio; `vedette_client.sync.Client` is its blocking twin.
"""

from vedette_client.account import Account
from vedette_client.analysis import Analysis
from vedette_client.client import Client
from vedette_client.engine_info import (
    Engine,
    EngineState,
    EngineTask,
    EngineVersion,
    Route,
    SampledFrame,
    ShadowFinding,
    ShadowReport,
    ShadowSample,
)
from vedette_client.errors import (
    AccountMismatchError,
    ClientError,
    ConnectionLostError,
    OptionsError,
    ProtocolError,
    RefusedError,
    SourceError,
    StreamClosedError,
)
from vedette_client.flow import Flow
from vedette_client.options import AnalyzeOptions, Policy, ReconnectOptions, StreamLimits, TlsOptions
from vedette_client.sessions import SessionInfo, SessionState
from vedette_client.stream import Stream
from vedette_client.verdicts import Box, Detection, EngineResult, SkipReason, Verdict

__all__ = [
    "Account",
    "AccountMismatchError",
    "Analysis",
    "AnalyzeOptions",
    "Box",
    "Client",
    "ClientError",
    "ConnectionLostError",
    "Detection",
    "Engine",
    "EngineResult",
    "EngineState",
    "EngineTask",
    "EngineVersion",
    "Flow",
    "OptionsError",
    "Policy",
    "ProtocolError",
    "ReconnectOptions",
    "RefusedError",
    "Route",
    "SampledFrame",
    "SessionInfo",
    "SessionState",
    "ShadowFinding",
    "ShadowReport",
    "ShadowSample",
    "SkipReason",
    "SourceError",
    "Stream",
    "StreamClosedError",
    "StreamLimits",
    "TlsOptions",
    "Verdict",
]
