"""The signed head of the chain of events, and what a check of the chain found.

A head is kept elsewhere as JSON, the contract's ChainHead as ProtoJSON: the server reads the same. Its signature can be
checked here, away from the server that made it. That needs the library `cryptography`, which a camera box does not
have: `pip install 'vedette[verify]'`.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import json_format

from vedette.v1 import event_pb2
from vedette_client.errors import IntegrityError, OptionsError
from vedette_client.events_data import time_from_wire, time_to_wire

HASH_DIGITS = 64
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of the chain of events as it stood, signed.

    Attributes:
        length: Records so far.
        hash: Of the last one, 64 hexadecimal digits.
        sign_time_ns: When it was signed, nanoseconds since the epoch.
        signature: Ed25519 (RFC 8032), 64 bytes.
        public_key: 32 bytes. Whoever rewrites a store may have another: compare it with one that you trust.
    """

    length: int
    hash: str
    sign_time_ns: int
    signature: bytes
    public_key: bytes

    def check_signature(self) -> None:
        """Check that the head was signed with its public key.

        Raises:
            IntegrityError: It was not.
            ImportError: The library `cryptography` is not installed.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra brings it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        text = f"vedette-chain-head-v1\n{self.length}\n{self.hash}\n{self.sign_time_ns}"
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, text.encode())
        except (InvalidSignature, ValueError) as error:
            key = self.public_key.hex()
            raise IntegrityError(f"the head of {self.length} records is not signed with its key {key}") from error

    def to_json(self) -> str:
        """Give it as text, to be kept elsewhere."""
        return json_format.MessageToJson(self.to_wire()) + "\n"

    def to_wire(self) -> event_pb2.ChainHead:
        """Write it."""
        return event_pb2.ChainHead(
            length=self.length,
            hash=self.hash,
            sign_time=time_to_wire(self.sign_time_ns),
            signature=self.signature,
            public_key=self.public_key,
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the chain found.

    Attributes:
        records: Records checked.
        files: Files checked.
        findings: What does not fit, in words, at most a thousand; empty: all is well.
    """

    records: int
    files: int
    findings: tuple[str, ...]


def head_from_json(text: str, where: str = "the head") -> ChainHead:
    """Read what `ChainHead.to_json` gave; its signature is not looked at.

    Raises:
        OptionsError: It is no head.
    """
    wire = event_pb2.ChainHead()
    try:
        json_format.Parse(text, wire)
    except json_format.ParseError as error:
        raise OptionsError(f"{where} is no exported head of a chain of events: {error}") from error
    if len(wire.hash) != HASH_DIGITS or len(wire.public_key) != _KEY_BYTES:
        raise OptionsError(f"{where} is no exported head of a chain of events: it lacks a hash or a public key")
    return head_from_wire(wire)


def head_from_wire(wire: event_pb2.ChainHead) -> ChainHead:
    """Build a head from its message."""
    return ChainHead(wire.length, wire.hash, time_from_wire(wire.sign_time), wire.signature, wire.public_key)
