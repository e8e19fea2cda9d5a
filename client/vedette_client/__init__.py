"""Cameras, watching and load tests: the Vedette client.

`Client` is for asyncio; `vedette_client.sync.Client` is its blocking twin.
"""

from vedette_client.account import Account
from vedette_client.analysis import Analysis
from vedette_client.channels import Applied, Recorded
from vedette_client.channels_data import Channel, ChannelSnapshot, ChannelStatus, PullState
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
    IntegrityError,
    OptionsError,
    ProtocolError,
    RefusedError,
    SourceError,
    StreamClosedError,
)
from vedette_client.events_chain import ChainHead, Verification
from vedette_client.events_data import (
    Acknowledgement,
    Event,
    EventFilter,
    EventKind,
    EventState,
    Evidence,
    EvidenceState,
    TrailPoint,
)
from vedette_client.events_files import ClipInfo
from vedette_client.flow import Flow
from vedette_client.options import AnalyzeOptions, Policy, ReconnectOptions, StreamLimits, TlsOptions
from vedette_client.sessions import SessionInfo, SessionState
from vedette_client.sinks import Replayed, Sink
from vedette_client.stream import Stream
from vedette_client.verdicts import Box, Detection, EngineResult, SkipReason, Verdict
from vedette_client.watching import ChannelResult, Gap, GapReason, Watch

__all__ = [
    "Account",
    "AccountMismatchError",
    "Acknowledgement",
    "Analysis",
    "AnalyzeOptions",
    "Applied",
    "Box",
    "ChainHead",
    "Channel",
    "ChannelResult",
    "ChannelSnapshot",
    "ChannelStatus",
    "Client",
    "ClientError",
    "ClipInfo",
    "ConnectionLostError",
    "Detection",
    "Engine",
    "EngineResult",
    "EngineState",
    "EngineTask",
    "EngineVersion",
    "Event",
    "EventFilter",
    "EventKind",
    "EventState",
    "Evidence",
    "EvidenceState",
    "Flow",
    "Gap",
    "GapReason",
    "IntegrityError",
    "OptionsError",
    "Policy",
    "ProtocolError",
    "PullState",
    "ReconnectOptions",
    "Recorded",
    "RefusedError",
    "Replayed",
    "Route",
    "SampledFrame",
    "SessionInfo",
    "SessionState",
    "ShadowFinding",
    "ShadowReport",
    "ShadowSample",
    "Sink",
    "SkipReason",
    "SourceError",
    "Stream",
    "StreamClosedError",
    "StreamLimits",
    "TlsOptions",
    "TrailPoint",
    "Verdict",
    "Verification",
    "Watch",
]
