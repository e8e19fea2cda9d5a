"""The topics under which a broker is told of events. Pure functions.

- `PREFIX/status`: `online`, or `offline` (also by the broker, when we are gone); retained.
- `PREFIX/CHANNEL/events`: each change of an event, as JSON (`document.py`).
- `PREFIX/CHANNEL/rules/RULE/state`: `ON` while an event of the rule goes on, else `OFF`, retained; of rules whose
  events have no duration only `ON`, not retained.
- `PREFIX/CHANNEL/camera/state`: `ON` while something is wrong with the camera, else `OFF`; retained.
- `PREFIX/CHANNEL/state`: what goes on, as JSON: `active_events` (a number), `active_rules`, `problems`; retained.
- `PREFIX/CHANNEL/snapshot`: the annotated JPEG of the latest event that has one; retained.

Names of channels and rules have no character that means something in a topic.
"""

from __future__ import annotations


def status(prefix: str) -> str:
    """Tell whether we are there."""
    return f"{prefix}/status"


def events(prefix: str, channel: str) -> str:
    """Tell each change of an event."""
    return f"{prefix}/{channel}/events"


def rule_state(prefix: str, channel: str, rule: str) -> str:
    """Tell whether an event of a rule goes on."""
    return f"{prefix}/{channel}/rules/{rule}/state"


def camera_state(prefix: str, channel: str) -> str:
    """Tell whether something is wrong with the camera."""
    return f"{prefix}/{channel}/camera/state"


def summary(prefix: str, channel: str) -> str:
    """Tell what goes on."""
    return f"{prefix}/{channel}/state"


def snapshot(prefix: str, channel: str) -> str:
    """Show the latest picture."""
    return f"{prefix}/{channel}/snapshot"
