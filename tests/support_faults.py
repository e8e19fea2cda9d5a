"""Scenes as a camera on a pole sees them, and faults made from them.

A film is a list of pictures, ``uint8 [h, w]``, full range. A fault takes a film and the index from which on it is
there, and gives another film of the same length; the pictures before are the same objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from vedette_server.data.rules import HealthConfig
from vedette_server.monitor.health.camera import CameraHealth
from vedette_server.monitor.luma import luma_of_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.data.event import Event


Picture: TypeAlias = "NDArray[np.uint8]"
Film: TypeAlias = list[Picture]
Fault: TypeAlias = Callable[[Film, int, int], Film]

WIDTH, HEIGHT = 640, 360
# Pictures per second of the films here, as camera health looks at them.
FPS = 2.0
START_S = 1_700_000_000.0


@dataclass(frozen=True)
class Place:
    """What a camera looks at: wider than its picture, so that it can be turned."""

    pixels: Picture

    @classmethod
    def make(cls, seed: int = 0) -> Place:
        rng = np.random.default_rng(seed)
        width, height = WIDTH * 2, HEIGHT * 2
        coarse = rng.integers(70, 170, (6, 10), np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(90):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            w, h = int(rng.integers(20, 160)), int(rng.integers(20, 120))
            cv2.rectangle(pixels, (x, y), (x + w, y + h), int(rng.integers(20, 235)), -1 if rng.random() < 0.7 else 3)
        return cls(cv2.GaussianBlur(pixels, (0, 0), 0.7))

    def seen(self, dx: float = 0.0, dy: float = 0.0, degrees: float = 0.0) -> Picture:
        """Look at its middle, or beside it by pixels and turned."""
        centre = (WIDTH + dx, HEIGHT + dy)
        turn = cv2.getRotationMatrix2D(centre, degrees, 1.0)
        turn[:, 2] -= (centre[0] - WIDTH / 2, centre[1] - HEIGHT / 2)
        return cv2.warpAffine(self.pixels, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def noisy(film: Sequence[Picture], sigma: float = 2.0, seed: int = 1) -> Film:
    """Add a sensor's noise, another for each picture."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma, (8, HEIGHT, WIDTH)).astype(np.float32)
    return [
        np.clip(np.roll(noise[i % 8], int(rng.integers(0, HEIGHT)), axis=0) + picture + 0.5, 0, 255).astype(np.uint8)
        for i, picture in enumerate(film)
    ]


def walker(picture: Picture, x: float, y: float, width: int = 40, height: int = 110, shade: int = 30) -> Picture:
    """Paint somebody into a copy of a picture; x and y are the feet, in pixels."""
    painted = picture.copy()
    cv2.ellipse(painted, (round(x), round(y - height / 2)), (width // 2, height // 2), 0, 0, 360, shade, -1)
    return painted


def still(count: int, seed: int = 0, sigma: float = 2.0) -> Film:
    """Film a place where nothing happens."""
    return noisy([Place.make(seed).seen()] * count, sigma, seed)


def busy(count: int, seed: int = 0) -> Film:
    """Film a place where people pass all the time, now and then close to the camera."""
    view = Place.make(seed).seen()
    film = []
    for i in range(count):
        picture = walker(view, (i * 37) % (WIDTH + 80) - 40, 250 + i % 60)
        if i % 40 in {10, 11, 12}:
            picture = walker(picture, WIDTH * (i % 40 - 8) / 6, HEIGHT, 260, 600, 90)
        film.append(picture)
    return noisy(film, 2.0, seed)


def frozen(film: Film, k: int, seed: int = 0) -> Film:
    return film[:k] + [film[k - 1]] * (len(film) - k)


def frozen_with_clock(film: Film, k: int, seed: int = 0) -> Film:
    """Freeze the picture while the camera goes on writing the time over it."""
    out = film[:k]
    for i in range(len(film) - k):
        picture = film[k - 1].copy()
        scale = picture.shape[1] / 640
        width, height = round(190 * scale), round(22 * scale)
        picture[:height, :width] = 0
        text = f"12:{i // 60 % 60:02}:{i % 60:02}.{i * 37 % 100:02}"
        cv2.putText(picture, text, (4, height - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.65 * scale, 255, 1)
        out.append(picture)
    return out


def dark(film: Film, k: int, seed: int = 0) -> Film:
    rng = np.random.default_rng(seed)
    return film[:k] + [(picture * 0.03 + rng.uniform(0, 6, picture.shape)).astype(np.uint8) for picture in film[k:]]


def bright(film: Film, k: int, seed: int = 0) -> Film:
    return film[:k] + [cv2.convertScaleAbs(picture, alpha=3.0, beta=110) for picture in film[k:]]


def moved(film: Film, k: int, seed: int = 0) -> Film:
    """Turn the camera by 5 to 20 % of the picture, and around itself by up to 6 degrees."""
    rng = np.random.default_rng(seed)
    height, width = film[0].shape
    angle = rng.uniform(0, 2 * np.pi)
    far = rng.uniform(0.05, 0.2) * width
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-6, 6), 1.0)
    turn[:, 2] += (far * np.cos(angle), far * np.sin(angle))
    # What comes into view was never filmed: its mirror stands for it.
    return film[:k] + [cv2.warpAffine(p, turn, (width, height), borderMode=cv2.BORDER_REFLECT) for p in film[k:]]


def covered(film: Film, k: int, seed: int = 0) -> Film:
    """Hold something unsharp before 75 to 100 % of the picture."""
    rng = np.random.default_rng(seed)
    height, width = film[0].shape
    share, shade = rng.uniform(0.75, 1.0), rng.uniform(50, 170)
    cover = shade + 15 * np.linspace(-1, 1, width)[None, :] + 10 * np.linspace(-1, 1, height)[:, None]
    edge = width * share
    opacity = np.clip((edge - np.arange(width)) / (0.03 * width) + 0.5, 0, 1)[None, :]
    if rng.random() < 0.5:
        opacity = opacity[:, ::-1]
    noise = rng.normal(0, 1.5, (height, width))
    return film[:k] + [
        np.clip(p * (1 - opacity) + (cover + np.roll(noise, i * 7, 0)) * opacity, 0, 255).astype(np.uint8)
        for i, p in enumerate(film[k:])
    ]


def defocused(film: Film, k: int, seed: int = 0) -> Film:
    """Blur by 0.6 to 1.5 % of the picture's width, and keep the sensor's noise."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.006, 0.015) * film[0].shape[1]
    noise = rng.normal(0, 1.0, film[0].shape)
    return film[:k] + [
        np.clip(cv2.GaussianBlur(p, (0, 0), sigma) + np.roll(noise, i * 7, 0) + 0.5, 0, 255).astype(np.uint8)
        for i, p in enumerate(film[k:])
    ]


PICTURE_FAULTS: dict[str, Fault] = {
    "camera_frozen": frozen,
    "camera_dark": dark,
    "camera_bright": bright,
    "camera_moved": moved,
    "camera_covered": covered,
    "camera_defocused": defocused,
}


def watch(film: Sequence[Picture], config: HealthConfig | None = None, fps: float = FPS) -> list[Event]:
    """Show a film to camera health, and return all events that were told."""
    health = CameraHealth("yard", config or HealthConfig())
    told: list[Event] = []
    for i, picture in enumerate(film):
        told += health.picture(luma_of_array(picture, lines=True), START_S + i / fps).events
    return told


def begun(events: Sequence[Event]) -> dict[str, float]:
    """Tell when each kind was told first, in seconds since the film began (a picture of the film, not when told)."""
    first: dict[str, float] = {}
    for event in events:
        first.setdefault(event.kind.value, event.start_s - START_S)
    return first


@dataclass(frozen=True)
class Sent:
    """A packet as it came: when (seconds since the start), how large, and whether it gave a sound picture."""

    receipt_s: float
    capture_s: float
    size_bytes: int
    sound: bool = True


Stream = list[Sent]


def healthy_stream(sizes: Sequence[int], fps: float, seconds: float, seed: int = 0) -> Stream:
    """Send packets of these sizes, looped, over a network with jitter that now and then stalls for up to 3 s."""
    rng = np.random.default_rng(seed)
    sent: Stream = []
    free_s = 0.0
    stall_s = float(rng.uniform(20, 90))
    for i in range(int(seconds * fps)):
        capture_s = i / fps
        if capture_s > stall_s:
            free_s, stall_s = capture_s + float(rng.uniform(0.5, 3)), stall_s + float(rng.uniform(30, 120))
        free_s = max(free_s, capture_s + float(rng.exponential(0.02)))
        sent.append(Sent(free_s, capture_s, sizes[i % len(sizes)]))
    return sent


def offline(stream: Stream, at_s: float, seed: int = 0) -> Stream:
    return [sent for sent in stream if sent.capture_s < at_s]


def low_bitrate(stream: Stream, at_s: float, seed: int = 0) -> Stream:
    share = np.random.default_rng(seed).uniform(0.02, 0.1)
    return [replace(s, size_bytes=max(int(s.size_bytes * share), 1)) if s.capture_s >= at_s else s for s in stream]


def low_frame_rate(stream: Stream, at_s: float, seed: int = 0) -> Stream:
    keep = 3 + seed % 5
    return [sent for i, sent in enumerate(stream) if sent.capture_s < at_s or i % keep == 0]


def clock_jump(stream: Stream, at_s: float, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    jump_s = float(np.exp(rng.uniform(np.log(5), np.log(7200))) * rng.choice((-1, 1)))
    return [replace(s, capture_s=s.capture_s + jump_s) if s.capture_s >= at_s else s for s in stream]


def decode_errors(stream: Stream, at_s: float, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.2, 0.8)
    return [replace(s, sound=bool(rng.random() > share)) if s.capture_s >= at_s else s for s in stream]


STREAM_FAULTS: dict[str, Callable[[Stream, float, int], Stream]] = {
    "camera_offline": offline,
    "camera_low_bitrate": low_bitrate,
    "camera_low_frame_rate": low_frame_rate,
    "camera_clock_jump": clock_jump,
    "camera_decode_errors": decode_errors,
}


def play(stream: Stream, config: HealthConfig | None = None, *, tail_s: float = 0.0) -> list[Event]:
    """Play a stream to camera health, with a tick each second; then wait for `tail_s`."""
    health = CameraHealth("yard", config or HealthConfig())
    told = list(health.start(START_S, "s1").events)
    ticked_s = 0.0
    for i, sent in enumerate(stream):
        while ticked_s + 1 < sent.receipt_s:
            ticked_s += 1
            told += health.tick(START_S + ticked_s).events
        now_s = START_S + sent.receipt_s
        told += health.packet(now_s, sent.size_bytes, START_S + sent.capture_s, i).events
        told += health.answer(now_s, sent.sound).events
    end_s = stream[-1].receipt_s + tail_s
    while ticked_s < end_s:
        ticked_s += 1
        told += health.tick(START_S + ticked_s).events
    return told
