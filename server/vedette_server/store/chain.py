"""The hash chain of records, and its signed heads.

`hash_n = SHA-256(hash_{n-1} || digest_n)`, where `digest_n` is the SHA-256 of the canonical bytes of record n and
`hash_0` is 32 zero bytes. The digest stays when retention removes the content, so the chain can always be checked;
an earlier head that was kept elsewhere tells when the whole store was written anew.

A head is signed with Ed25519 (RFC 8032) over the text that the contract's ChainHead states. Its exported form is the
JSON of that message (ProtoJSON), so that a file of it can be read with any library of protobuf.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vedette_server.errors import InvalidError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def link(before: bytes, digest: bytes) -> bytes:
    """Give the hash of a record from that of the one before it and the digest of its content."""
    return hashlib.sha256(before + digest).digest()


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of the chain as it stood, signed; the contract's ChainHead.

    Attributes:
        length: Records so far.
        hash: Of the last one, 32 bytes.
        sign_time_ns: When it was signed, nanoseconds since the epoch.
        signature: Ed25519, 64 bytes.
        public_key: 32 bytes.
    """

    length: int
    hash: bytes
    sign_time_ns: int
    signature: bytes
    public_key: bytes

    @property
    def signed_text(self) -> bytes:
        """What the signature is over."""
        return f"vedette-chain-head-v1\n{self.length}\n{self.hash.hex()}\n{self.sign_time_ns}".encode()

    def is_signed_by(self, public_key: bytes) -> bool:
        """Tell whether the signature is right and made with this key: one that the asker trusts, not the head's own."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, self.signed_text)
        except (InvalidSignature, ValueError):
            return False
        return public_key == self.public_key

    def exported(self) -> str:
        """Give it as text, to be kept elsewhere."""
        content = {
            "length": str(self.length),
            "hash": self.hash.hex(),
            "signTime": _stamp(self.sign_time_ns),
            "signature": base64.b64encode(self.signature).decode(),
            "publicKey": base64.b64encode(self.public_key).decode(),
        }
        return json.dumps(content, indent=2) + "\n"


def sign(key: Ed25519PrivateKey, length: int, head_hash: bytes, now_ns: int) -> ChainHead:
    """Make a signed head."""
    bare = ChainHead(length, head_hash, now_ns, b"", key.public_key().public_bytes_raw())
    return ChainHead(length, head_hash, now_ns, key.sign(bare.signed_text), bare.public_key)


def imported(text: str) -> ChainHead:
    """Read what `ChainHead.exported` gave; its signature is not looked at.

    Raises:
        InvalidError: It is no head.
    """
    try:
        return _head(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidError("HEAD_INVALID", f"this is no exported head of a chain: {error!r}") from error


def _head(content: dict[str, Any]) -> ChainHead:
    # ProtoJSON leaves out what is zero: the head of an empty chain has no length.
    head = ChainHead(
        int(content.get("length", 0)),
        bytes.fromhex(content["hash"]),
        _nanoseconds(content["signTime"]),
        base64.b64decode(content["signature"], validate=True),
        base64.b64decode(content["publicKey"], validate=True),
    )
    if head.length < 0 or len(head.hash) != HASH_BYTES:
        raise ValueError(f"length {head.length} and a hash of {len(head.hash)} bytes; 0 or more and {HASH_BYTES}")
    return head


def _stamp(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _nanoseconds(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"time {text!r}; RFC 3339 in UTC is allowed")
    seconds = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    return int(seconds.timestamp()) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))
