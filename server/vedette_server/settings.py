"""What the server can be told, as one frozen tree with a section for each part.

Every option is declared here once: its default, unit, help and what is allowed. File, environment, flags
(`settings_load.py`) and the reference page (`settings_page.py`) are driven by these declarations. A part
receives its own section, never the tree.

Plain data, read once before the server starts; imports only the standard library, and how options are declared and
texts are read.
"""
# ruff: noqa: RUF009 - `option` is `dataclasses.field` under a name of ours, as immutable as that

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the kinds of options are read from the annotations
from typing import Literal

from vedette_server.settings_declaring import option
from vedette_server.settings_monitor import EvidenceSettings, MonitorSettings, SinkSettings, StoreSettings
from vedette_server.settings_texts import read_provider_option, read_weight

Auto = Literal["auto"]
Off = Literal["off"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gRPC edge."""

    host: str = option(
        "127.0.0.1", "Address to listen on; other than loopback needs TLS and clients that are known.", flag="--host"
    )
    port: int = option(50051, "Port to listen on; 0: any free one, which is printed.", low=0, high=65535, flag="--port")
    insecure: bool = option(
        False, "Listen beyond loopback even without TLS, or without tokens or a client CA.", flag="--insecure"
    )
    max_message_bytes: int = option(8 * MIB, "Largest message.", unit="bytes", low=64 * 1024, high=1024 * MIB)
    max_packet_bytes: int = option(
        8 * MIB, "Largest packet, its fragments together.", unit="bytes", low=1024, high=1024 * MIB
    )
    max_channels: int = option(1024, "Most channels connected at once.", low=1, high=100_000)
    heartbeat_interval_s: float = option(
        5.0, "A peer silent for three of these is taken for dead.", unit="s", low=0.05, high=3600
    )
    resume_window_s: float = option(30.0, "How long a session outlives its connection.", unit="s", low=0, high=86_400)
    drain_grace_s: float = option(
        10.0, "Time to finish what is held when told to stop.", unit="s", low=0, high=3600, flag="--drain-grace-s"
    )
    reflection: bool = option(True, "Answer reflection, so that tools like grpcurl find the services.")

    @property
    def is_loopback(self) -> bool:
        """Whether nobody beyond this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Encryption."""

    certificate: Path | None = option(None, "Certificate chain of the server, PEM.", flag="--tls-cert")
    key: Path | None = option(None, "Private key of the certificate, PEM.", flag="--tls-key")
    client_ca: Path | None = option(None, "Clients must show a certificate of this authority, PEM.", flag="--client-ca")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may do what."""

    tokens_file: Path | None = option(
        None, "Bearer tokens and what each may do, TOML or JSON; read again when it changes.", flag="--tokens"
    )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Engines and how they run."""

    dirs: tuple[Path, ...] = option(
        (),
        "Directories of engine bundles, besides the engines in the box.",
        flag="--engines-dir",
        env=("VEDETTE_ENGINES_DIR",),
        separator=":",
    )
    preload: tuple[str, ...] = option(
        (), "Engines to load at the start, NAME or NAME@VERSION; others load when first asked for.", flag="--engine"
    )
    providers: tuple[str, ...] = option(
        (), "Execution providers of ONNX Runtime, best first; none: the best that is there.", flag="--provider"
    )
    provider_options: tuple[str, ...] = option(
        (),
        "Options of providers, PROVIDER.KEY=VALUE with the runtime's own names, such as cuda.enable_cuda_graph=1.",
        flag="--provider-option",
    )
    backend: str = option(
        "auto",
        "Runtime to run engines with; auto: TensorRT where it, a GPU and a plan are there, else ONNX Runtime.",
        choices=("auto", "onnxruntime", "openvino", "tensorrt"),
        flag="--backend",
    )
    precision: str = option(
        "auto",
        "Which of a bundle's files to run; auto: the most exact one.",
        choices=("auto", "fp32", "fp16", "int8"),
        flag="--precision",
    )
    fallback: bool = option(
        False,
        "Run a bundle's next file, or use the next provider, where one is of no use here, such as another GPU's plan.",
        flag="--fallback",
    )
    lanes: int | Auto = option("auto", "Batches of one engine that run at once.", low=1, high=64, flag="--lanes")
    max_batch: int | Auto = option("auto", "Most frames in a batch.", low=1, high=1024, flag="--max-batch")
    batch_mode: str = option(
        "auto",
        "Batches padded to the next size that was prepared, or run as they are; auto: padded on a GPU alone.",
        choices=("auto", "bucket", "exact"),
        flag="--batch-mode",
    )
    max_wait_s: float = option(
        0.005,
        "Longest time a frame waits for its batch to fill.",
        unit="s",
        low=0,
        high=10,
        flag="--max-wait-ms",
        flag_unit="ms",
    )
    intra_op_threads: int | Auto = option("auto", "Threads inside one run on a CPU.", low=1, high=1024)
    devices: tuple[int, ...] = option(
        (), "Numbers of the GPUs to run engines on; none: all that are there.", low=0, high=255, flag="--device"
    )
    weights: tuple[str, ...] = option(
        (),
        "Shares of a GPU that engines get which run on it together, NAME=WEIGHT; 1 where nothing is said.",
        flag="--engine-weight",
    )
    preprocess: str = option(
        "cpu",
        "Where pictures are letterboxed: on the CPU, or on the GPU that runs the engine.",
        choices=("cpu", "device"),
        flag="--preprocess",
    )
    graphs: bool = option(True, "Launch batches as captured CUDA graphs, where library and engine can.")
    session_per_lane: bool = option(
        False,
        "ONNX Runtime on CUDA: batches of several lanes compute at once, each with the weights in memory of its own.",
    )
    kernel_cache_dir: Path | None = option(
        None, "Where TensorRT for RTX keeps the kernels that it compiled; none: ~/.cache/vedette/kernels."
    )
    cuda_library: str = option(
        "auto",
        "Python library of the CUDA driver; auto: cuda-bindings, else pycuda.",
        choices=("auto", "cuda-bindings", "pycuda"),
    )
    slots: int | Auto = option(
        "auto",
        "Frames of one engine on one GPU that are converted or under way at once; auto: a batch for each lane and two.",
        low=1,
        high=65_536,
    )
    pinned_memory_bytes: int = option(
        1024 * MIB,
        "Most page-locked memory of one engine on one GPU: half at most for slots, the rest for pictures.",
        unit="bytes",
        low=MIB,
        high=1 << 40,
    )
    memory_limit_bytes: int = option(0, "Most GPU memory of ONNX Runtime; 0: no limit.", unit="bytes", low=0)
    arena_extend_strategy: str = option(
        "kNextPowerOfTwo", "How ONNX Runtime's CUDA arena grows.", choices=("kNextPowerOfTwo", "kSameAsRequested")
    )
    cudnn_conv_algo_search: str = option(
        "EXHAUSTIVE", "How cuDNN chooses its convolutions.", choices=("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
    )
    watch_interval_s: float = option(
        2.0,
        "How often to look for newer versions, which then take over between two batches; 0: never.",
        unit="s",
        low=0,
        high=86_400,
        flag="--watch-interval-s",
    )
    keep_previous_s: float = option(
        60.0, "How long a version is kept loaded that another took the place of.", unit="s", low=0, high=86_400
    )
    memory_budget_bytes: int = option(
        0, "Most memory of all loaded versions together; 0: no limit.", unit="bytes", low=0, high=1 << 50
    )
    state_file: Path | None = option(
        None,
        "Where routes are kept over a restart; none: .routes.json in the first directory of engines. Servers that "
        "share it need a file each.",
    )
    tune_budget_s: float = option(
        3.0, "Time to measure the best batch and lanes of an engine when it is loaded.", unit="s", low=0, high=600
    )

    def weight_of(self, name: str) -> float:
        """Tell the share of a GPU that an engine gets, beside the others' on it.

        Raises:
            ValueError: The weights cannot be read; see `settings_load.check`.
        """
        return dict(map(read_weight, self.weights)).get(name, 1.0)

    def options_of_providers(self) -> dict[str, dict[str, str]]:
        """Give the providers' options, by provider.

        Raises:
            ValueError: They cannot be read; see `settings_load.check`.
        """
        found: dict[str, dict[str, str]] = {}
        for provider, key, value in map(read_provider_option, self.provider_options):
            found.setdefault(provider, {})[key] = value
        return found


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """The decoder pool."""

    workers: int | Auto = option(
        "auto", "Threads that decode and convert; each lane brings one more.", low=1, high=1024, flag="--workers"
    )
    max_width: int = option(8192, "Widest picture.", unit="px", low=16, high=65_535)
    max_height: int = option(8192, "Highest picture.", unit="px", low=16, high=65_535)
    inbox_packets: int = option(
        64, "Packets of one channel that wait for a decoder; at least the window.", low=1, high=65_536
    )
    inbox_bytes: int = option(16 * MIB, "Bytes of one channel that wait for a decoder.", unit="bytes", low=1024)
    pending_pictures: int = option(
        4, "Decoded pictures of one EVERY_FRAME channel that wait for an engine.", low=1, high=256
    )
    drop_disposable_after_s: float = option(
        0.3, "Decoding this late drops pictures that nothing refers to.", unit="s", low=0, high=60
    )
    jump_after_s: float = option(1.0, "Decoding this late jumps to the next keyframe.", unit="s", low=0, high=600)
    device: str = option(
        "auto", "Decodes video; auto: GPUs that letterbox.", choices=("auto", "cpu", "nvdec"), flag="--decode-device"
    )
    surface_bytes: int = option(1024 * MIB, "Memory of a GPU for pictures it decoded.", unit="bytes", low=0)

    @property
    def threads(self) -> int:
        """How many decode and convert: one for each core that this process may use, where nobody says otherwise."""
        if self.workers != "auto":
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """What holds for a channel that does not say otherwise."""

    max_age_s: float = option(2.0, "A live frame older than this is skipped.", unit="s", low=0.001, high=86_400)
    window_packets: int = option(
        32, "Packets that an EVERY_FRAME client may be ahead of the decoder.", low=1, high=65_536
    )
    window_bytes: int = option(
        8 * MIB, "Bytes that an EVERY_FRAME client may be ahead of the decoder.", unit="bytes", low=1024
    )
    max_unacknowledged: int = option(4096, "Verdicts kept until the client acknowledges them.", low=16, high=1_000_000)


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Figures for Prometheus."""

    host: str = option("127.0.0.1", "Address on which Prometheus finds the metrics.", flag="--metrics-host")
    port: int | Off = option(
        9464, "Port of the metrics; 0: any free one; off: none.", low=0, high=65535, flag="--metrics-port"
    )
    forget_after_s: float = option(
        300.0, "A channel's series are kept so long after its end.", unit="s", low=0, high=86_400
    )
    gpu: bool = option(
        True,
        "Tell what NVML knows of the GPUs, where nvidia-ml-py is installed and a GPU is there.",
        flag="--gpu-metrics",
    )
    nvtx: bool = option(
        False, "Mark the stages for NVIDIA's profilers, where the package nvtx is installed.", flag="--nvtx"
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the server says about itself."""

    level: str = option(
        "info",
        "Least weighty events that are logged.",
        choices=("debug", "info", "warning", "error"),
        flag="--log-level",
    )
    format: str = option(
        "text", "Lines for people, or one JSON object per line.", choices=("text", "json"), flag="--log-format"
    )


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """A record of every frame's way."""

    file: Path | None = option(
        None,
        "Write a trace of every frame's way, which ui.perfetto.dev opens; compressed when the name ends in .gz.",
        flag="--trace",
    )
    max_bytes: int = option(
        256 * MIB, "Size at which a trace ends.", unit="bytes", low=64 * 1024, high=1 << 40, flag="--trace-max-bytes"
    )


@dataclass(frozen=True, slots=True)
class SuperviseSettings:
    """The process that starts the server again when it ends unexpectedly."""

    enabled: bool = option(
        True, "Serve in a worker process that is started again when it crashes or hangs.", flag="--supervise"
    )
    backoff_s: float = option(
        1.0,
        "Wait before the first restart; each further one doubles it.",
        unit="s",
        low=0.01,
        high=3600,
        flag="--restart-backoff-s",
    )
    backoff_max_s: float = option(
        30.0, "Longest wait before a restart.", unit="s", low=0.01, high=86_400, flag="--restart-backoff-max-s"
    )
    settled_s: float = option(
        60.0,
        "A worker that served so long ran well: the next wait is the first one again.",
        unit="s",
        low=0,
        high=86_400,
        flag="--restart-settled-s",
    )
    max_restarts: int = option(5, "Restarts within the window; one more end gives up.", low=0, high=100_000)
    window_s: float = option(
        600.0, "The window in which restarts are counted.", unit="s", low=1, high=604_800, flag="--restart-window-s"
    )
    start_timeout_s: float = option(
        120.0,
        "A worker without a sign of life so long after its start is killed; 0: never.",
        unit="s",
        low=0,
        high=86_400,
    )
    hang_timeout_s: float = option(
        30.0, "A worker whose event loop stands still for so long is killed; 0: never.", unit="s", low=0, high=86_400
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections."""

    server: ServerSettings = field(default_factory=ServerSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    engines: EngineSettings = field(default_factory=EngineSettings)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    channels: ChannelSettings = field(default_factory=ChannelSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    supervise: SuperviseSettings = field(default_factory=SuperviseSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    sinks: SinkSettings = field(default_factory=SinkSettings)
