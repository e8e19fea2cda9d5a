"""The files in deploy/ fit each other, the Dockerfile and the server; and the check of that can fail."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vedette_client import health

if TYPE_CHECKING:
    from collections.abc import Iterator

from support_serving import ServerProcess

ROOT = Path(__file__).resolve().parent.parent


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("check_deploy", ROOT / "deploy/check_deploy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_deploy"] = module
    spec.loader.exec_module(module)
    return module


check_deploy = loaded()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/operating.md", tmp_path / "docs")
    return tmp_path


def test_the_files_have_no_fault() -> None:
    assert check_deploy.faults(ROOT) == []


def test_events_that_only_wait_for_room_raise_no_alarm_that_they_are_lost() -> None:
    rules = (ROOT / "deploy/alerts.yaml").read_text("utf-8")
    outcomes = re.findall(r"vedette_event_changes_total\{outcome(=~?)\"([^\"]*)\"", rules)
    assert outcomes == [("=", "lost")]


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("deploy/compose.yaml", "target: cpu", "target: tpu", "no stage tpu"),
        ("deploy/compose.yaml", "- engines:/engines", "- motors:/engines", "volume motors is not declared"),
        ("deploy/compose.yaml", "./prometheus.yaml:", "./absent.yaml:", "./absent.yaml does not exist"),
        ("deploy/compose.yaml", '"127.0.0.1:50051:50051"', '"50051:50051"', "published beyond loopback"),
        ("deploy/compose.yaml", "prom/prometheus:v3.5.0", "prom/prometheus", "names no version"),
        ("deploy/compose.yaml", "VEDETTE_LOG_FORMAT", "VEDETTE_LOGGING", "no variable VEDETTE_LOGGING"),
        ("deploy/compose.yaml", "      - prometheus\n    restart", "      - loki\n    restart", "loki, which is no"),
        ("deploy/compose.yaml", "read_only:", "readonly:", "unknown key readonly"),
        ("deploy/compose.gpu.yaml", "target: gpu", "target: tpu", "no stage tpu"),
        ("deploy/compose.gpu.yaml", "  server:", "  worker:", "worker is no service"),
        ("deploy/compose.gpu.yaml", "driver: nvidia", "driver: cdi", "server reserves no GPU"),
        ("deploy/compose.gpu.yaml", "VEDETTE_ENGINES_FALLBACK", "VEDETTE_FALLBACK", "no variable VEDETTE_FALLBACK"),
        ("Dockerfile", "compute,utility,video", "compute,utility", "stage gpu asks the driver for no video"),
        ("deploy/prometheus.yaml", "server:9464", "server:9465", "metrics are on port 9464"),
        ("deploy/prometheus.yaml", "server:9464", "vedette:9464", "vedette is no service"),
        ("deploy/prometheus.yaml", "- alerts.yaml", "- rules.yaml", "rules in rules.yaml, which is not mounted"),
        ("deploy/alerts.yaml", "vedette_gpu_stale)", "vedette_gpu_old)", "no metric vedette_gpu_old"),
        ("deploy/alerts.yaml", "alert: VedetteDown", "record: down", "alerts: ?: lacks alert"),
        (
            "docs/operating.md",
            "--volume vedette_engines:",
            "--volume engines:",
            "volume engines is none of the compose",
        ),
        ("Dockerfile", "EXPOSE 50051 9464", "EXPOSE 50051", "port 9464 is not exposed"),
        ("Dockerfile", "COPY --from=wheel", "COPY --from=wheels", "copies from wheels"),
        ("deploy/grafana/provisioning/dashboards/vedette.yaml", "/var/lib/vedette", "/srv", "nothing is mounted"),
        ("deploy/grafana/provisioning/datasources/prometheus.yaml", "uid: prometheus", "uid: mimir", "not provisioned"),
        ("deploy/grafana/dashboards/vedette.json", "vedette_inbox_packets{", "vedette_inbox{", "no metric"),
        ("deploy/grafana/dashboards/vedette.json", "sum by (stage)", "sum by (step)", "has a label step"),
        ("deploy/grafana/dashboards/vedette.json", "outcome=", "result=", "has no label result"),
        ("deploy/grafana/dashboards/vedette.json", "$channel", "$camera", "$camera is not declared"),
        (
            "deploy/grafana/dashboards/vedette.json",
            "label_values(vedette_packets_total, channel)",
            "x",
            "gives nothing",
        ),
    ],
)
def test_a_planted_fault_is_found(copy: Path, file: str, old: str, new: str, says: str) -> None:
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")

    assert any(says in fault for fault in check_deploy.faults(copy)), check_deploy.faults(copy)


def gpu_image() -> str:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return "".join(stage for stage in text.split("\nFROM ") if "gpu" in stage.partition("\n")[0])


def test_the_gpu_image_holds_all_that_a_gpu_can_be_used_with_and_no_compiler() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = re.search(r'"vedette\[([\w,-]+)\] @ file', gpu_image())
    assert installed is not None
    named = {re.split(r"[\[><=;]", one)[0].lower() for extra in installed[1].split(",") for one in extras[extra]}
    wanted = {"onnxruntime-gpu", "tensorrt", "cuda-bindings", "pynvvideocodec", "nvidia-ml-py", "onnxconverter-common"}
    assert wanted <= named
    # pip would have to compile these, and two of one module exclude each other.
    assert not {"pycuda", "onnxruntime"} & named
    assert not re.search(r"gcc|g\+\+|build-essential|-devel|nvcc", gpu_image())


def test_make_gpu_says_in_one_line_what_is_missing_where_there_is_no_gpu(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    command = [make, "gpu", "GPU_NODES=", f"GPU_VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs an NVIDIA GPU" in done.stderr.splitlines()[0]
    assert "--simulated" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_every_exported_metric_of_ours_is_on_the_dashboard() -> None:
    text = (ROOT / "deploy/grafana/dashboards/vedette.json").read_text(encoding="utf-8")
    families = {name.removesuffix("_sum").removesuffix("_count") for name in check_deploy.exported_series()}
    ours = {name.removesuffix("_bucket") for name in families if name.startswith("vedette_")}
    assert {name for name in ours if name not in text} == set()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


def test_the_healthcheck_passes_while_the_server_serves(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health.main([], {"VEDETTE_SERVER_PORT": str(server.port)}) == 0
    assert capsys.readouterr().out == "SERVING\n"


def test_the_healthcheck_fails_where_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["127.0.0.1:1", "--timeout-s", "1"], {}) == 1
    assert capsys.readouterr().err.startswith("vedette health: ")


def test_the_healthcheck_refuses_a_certificate_without_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["127.0.0.1:1", "--ca", "ca.pem", "--cert", "one.pem"], {}) == 2
    assert "go together" in capsys.readouterr().err


def test_the_healthcheck_trusts_what_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("vedette.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    flags = ("--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.pem"))
    environ = {"VEDETTE_HEALTH_CA": str(tmp_path / "ca.pem"), "VEDETTE_HEALTH_SERVER_NAME": "vedette.example"}
    with ServerProcess(*flags) as server:
        assert health.main([server.address], environ) == 0
        assert health.main([server.address, "--server-name", "other.example", "--timeout-s", "2"], environ) == 1
    assert capsys.readouterr().out == "SERVING\n"
