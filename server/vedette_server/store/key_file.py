"""The key that signs the heads of the chain: a file that only its owner may read."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vedette_server.errors import SettingsError


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """Read the key (PEM, PKCS 8); where there is none, make one, with mode 0600.

    Raises:
        SettingsError: It cannot be read or made, is no Ed25519 key, or others than its owner may read it.
    """
    try:
        if not path.exists():
            _make(path)
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"key file {path}: {error.strerror or error}") from error
    if others:
        raise SettingsError(f"key file {path}: others than its owner have rights on it; allowed is mode 0600")
    return _read(path, content)


def _read(path: Path, content: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"key file {path}: not a private key in PEM without a password ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"key file {path}: a key of {type(key).__name__}; Ed25519 is allowed")
    return key


def _make(path: Path) -> None:
    """Write it whole under another name first: a crash leaves none or all, and of two processes one's is taken."""
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
