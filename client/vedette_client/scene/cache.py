"""One period of a scene, encoded once and shared by all sources that show it.

A load tester's hundred channels must not spend the machine on encoding. A period is encoded as it is
first asked for, frame by frame, so that the first packet comes at once; after that it costs nothing.

Threads: any.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from typing import TYPE_CHECKING

from vedette_client.scene.blobs import Blobs
from vedette_client.scene.encode import Encoded, VideoEncoder, encode_picture, is_intra
from vedette_client.scene.walkers import Walkers

if TYPE_CHECKING:
    from vedette_client.scene.base import Scene
    from vedette_client.scene.spec import SceneSpec
    from vedette_client.scene.truth import FrameTruth

# Stills and raw pictures beyond this are made anew each time: they need not be at hand to make the next.
_MAX_STILL_BYTES = 64 * 1024 * 1024
_clips: weakref.WeakValueDictionary[SceneSpec, Clip] = weakref.WeakValueDictionary()
_clips_lock = threading.Lock()


class Clip:
    """One period of a scene as packets.

    Args:
        spec: The scene and its coding.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self._spec = spec
        self._scene = build_scene(spec)
        self._lock = threading.Lock()
        self._intra = is_intra(spec)
        self._stills: dict[int, Encoded] = {}
        self._still_bytes = 0
        self._encoder = None if self._intra else VideoEncoder(spec)
        self._packets: list[Encoded] = []
        self._truths: dict[int, FrameTruth] = {}
        self._drawn = 0

    def packet(self, index: int) -> Encoded:
        """Give the packet at a place in decoding order, 0 up to `spec.period_frames`; may have to encode first."""
        with self._lock:
            return self._still(index) if self._intra else self._video(index)

    def truth(self, pts: int) -> FrameTruth:
        """Tell what is to be seen in the frame of that presentation time, 0 up to `spec.period_frames`."""
        with self._lock:
            if pts not in self._truths:
                self._truths[pts] = self._scene.truth(pts)
            return self._truths[pts]

    def _still(self, index: int) -> Encoded:
        if index in self._stills:
            return self._stills[index]
        made = Encoded(encode_picture(self._spec, self._scene.draw(index)), index, index, keyframe=True)
        if self._still_bytes + len(made.data) <= _MAX_STILL_BYTES:
            self._stills[index] = made
            self._still_bytes += len(made.data)
        return made

    def _video(self, index: int) -> Encoded:
        while self._encoder is not None and len(self._packets) <= index:
            if self._drawn < self._spec.period_frames:
                self._packets += self._encoder.encode(self._scene.draw(self._drawn), self._drawn)
                self._drawn += 1
            else:
                self._packets += self._encoder.finish()
                self._encoder = None
        return self._packets[index]


def shared_clip(spec: SceneSpec) -> Clip:
    """Give the clip of a scene: the same one as long as anybody holds it."""
    key = dataclasses.replace(spec, seconds=None)
    with _clips_lock:
        clip = _clips.get(key)
        if clip is None:
            clip = _clips[key] = Clip(key)
        return clip


def build_scene(spec: SceneSpec) -> Scene:
    """Build the scene that the specification names."""
    return Blobs(spec) if spec.kind == "blobs" else Walkers(spec)
