"""Write the server's messages other than verdicts."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette.v1 import session_pb2, stream_pb2
from vedette_server.data.config import EngineRef
from vedette_server.rpc.convert import account_to_wire, config_to_wire, set_duration, set_timestamp

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.session.ended import EndedSession
    from vedette_server.session.outgoing import Flow
    from vedette_server.session.seams import Attachment
    from vedette_server.session.session import Session
    from vedette_server.settings import Settings


def accepted_to_wire(
    session: Session, attachment: Attachment, settings: Settings, version: str
) -> stream_pb2.AnalyzeStreamResponse:
    """Answer a configuration."""
    response = stream_pb2.AnalyzeStreamResponse()
    wire = response.accepted
    wire.session = session.identity.name
    wire.session_token = session.identity.token
    wire.epoch = attachment.epoch
    wire.next_sequence = attachment.next_sequence
    wire.next_verdict_index = attachment.next_verdict_index
    wire.keyframe_needed = attachment.keyframe_needed
    wire.state_restored = attachment.restored
    wire.config.CopyFrom(config_to_wire(config_in_effect(session)))
    limits = wire.limits
    limits.max_message_bytes = settings.server.max_message_bytes
    limits.max_packet_bytes = settings.server.max_packet_bytes
    limits.max_width = settings.decode.max_width
    limits.max_height = settings.decode.max_height
    limits.max_packets_in_flight = settings.decode.inbox_packets
    limits.max_unacknowledged_verdicts = settings.channels.max_unacknowledged
    set_duration(wire.heartbeat_interval, settings.server.heartbeat_interval_s)
    set_duration(wire.resume_window, settings.server.resume_window_s)
    wire.server_version = version
    if attachment.flow is not None:
        flow_to_wire(attachment.flow, wire.flow)
    return response


def config_in_effect(session: Session) -> ChannelConfig:
    """Tell a session's configuration with the versions that run now, also where it leaves them open."""
    labels = [inference.label for inference in session.binding.inferences]
    return replace(session.config, engines=tuple(EngineRef(label.name, label.version) for label in labels))


def flow_to_wire(flow: Flow, wire: stream_pb2.FlowControl) -> None:
    """Write credits and wishes in place."""
    if flow.send_through_sequence is not None:
        wire.send_through_sequence = flow.send_through_sequence
    if flow.send_through_bytes is not None:
        wire.send_through_bytes = flow.send_through_bytes
    if flow.rate_hint_fps is not None:
        wire.rate_hint_fps = flow.rate_hint_fps
    if flow.settled_through_sequence is not None:
        wire.settled_through_sequence = flow.settled_through_sequence
    wire.keyframe_request = flow.keyframe_request


def clock_to_wire(question: stream_pb2.ClockSync, received_wall_ns: int) -> stream_pb2.AnalyzeStreamResponse:
    """Answer a question for the time."""
    response = stream_pb2.AnalyzeStreamResponse()
    response.clock_sync.CopyFrom(question)
    set_timestamp(response.clock_sync.server_receive_time, received_wall_ns)
    set_timestamp(response.clock_sync.server_send_time, time.time_ns())
    return response


def session_to_wire(session: Session | EndedSession) -> session_pb2.Session:
    """Describe a session."""
    if session.ended_wall_s is not None:
        state = session_pb2.SESSION_STATE_ENDED
    elif session.connected:
        state = session_pb2.SESSION_STATE_CONNECTED
    else:
        state = session_pb2.SESSION_STATE_DETACHED
    wire = session_pb2.Session(
        name=session.identity.name, state=state, end_reason=session.end_reason, account=account_to_wire(session.account)
    )
    set_timestamp(wire.create_time, int(session.identity.created_wall_s * 1e9))
    if session.ended_wall_s is not None:
        set_timestamp(wire.end_time, int(session.ended_wall_s * 1e9))
    return wire
