"""Check the files in `deploy/` against each other, against the Dockerfile, and against the server's metrics.

Run by `make check`: there need be no container engine for it. Prints every fault, one a line, and ends with 1
when there is one. It finds what such files suffer from: a service, target, volume, port or file that does not exist
under that name any more, and a panel that asks for a metric or a label that the server does not export.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vedette_server.data.outcome import SkipReason
from vedette_server.data.times import StageTimes
from vedette_server.gpu_metrics import GPU_FIGURES, GpuSample, families
from vedette_server.metrics import EngineDepths, Metrics
from vedette_server.metrics_monitoring import MonitoringExporter, one_of_each
from vedette_server.settings import MetricsSettings, ServerSettings
from vedette_server.settings_options import options
from vedette_server.worker_words import Past

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

_SERVICE_KEYS = frozenset(
    [
        "image",
        "build",
        "environment",
        "ports",
        "volumes",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
        "stop_grace_period",
        "restart",
        "command",
        "depends_on",
        "healthcheck",
        "user",
        "deploy",
        "networks",
        "profiles",
        "env_file",
        "entrypoint",
        "secrets",
    ]
)
_METRIC = re.compile(r"\b(?:vedette|process)_[a-z_]+\b")
_SELECTOR = re.compile(r"(\b(?:vedette|process)_[a-z_]+)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


def faults(root: Path) -> list[str]:
    """List what is wrong below ``root``, the project's folder."""
    compose = _yaml(root / "deploy/compose.yaml")
    found = list(_compose_faults(compose, root))
    found += _gpu_faults(_yaml(root / "deploy/compose.gpu.yaml"), compose, root)
    found += _page_faults((root / "docs/operating.md").read_text(encoding="utf-8"), compose)
    found += _prometheus_faults(_yaml(root / "deploy/prometheus.yaml"), compose)
    found += _rule_faults(_yaml(root / "deploy/alerts.yaml"))
    found += _grafana_faults(root / "deploy/grafana", compose)
    dashboard = json.loads((root / "deploy/grafana/dashboards/vedette.json").read_text(encoding="utf-8"))
    found += _dashboard_faults(dashboard, _datasource_uids(root / "deploy/grafana"))
    return found


def exported_series() -> dict[str, frozenset[str]]:
    """Ask the server's own exporter for the names of all series, each with its labels."""
    with Metrics(MetricsSettings(port="off")) as metrics:
        channel = metrics.channel("one", "person")
        channel.verdict(SkipReason.STALE, StageTimes())
        channel.verdict(None, StageTimes())
        engine = metrics.engine("person", "1")
        engine.watch(EngineDepths)
        engine.runs("any", "")
        engine.fed(Counter(slot=1))
        metrics.watch_gpu(0, float)
        metrics.route("person")
        metrics.refused("ANY")
        metrics.restarted(Past({}, "SIGSEGV", 1.0))
        gpu = GpuSample(0, "GPU-0", throttled={"thermal": False}, **dict.fromkeys(GPU_FIGURES, 0.0))
        series: dict[str, frozenset[str]] = {}
        monitoring = MonitoringExporter(one_of_each).collect()
        for family in (*metrics.registry.collect(), *families([(False, gpu)]), *monitoring):
            for sample in family.samples:
                series[sample.name] = series.get(sample.name, frozenset()) | frozenset(sample.labels)
    return series


def expression_faults(expression: str, series: dict[str, frozenset[str]]) -> Iterator[str]:
    """List the metrics and labels of one PromQL expression that are not exported."""
    # A label's name or value may look like a metric's.
    names = set(_METRIC.findall(_GROUPING.sub("", re.sub(r"\{[^}]*\}", "", expression))))
    for name in sorted(names - series.keys()):
        yield f"no metric {name}"
    for name, matchers in _SELECTOR.findall(expression):
        for label in _MATCHER.findall(re.sub(r'"[^"]*"', '""', matchers)):
            if label not in series.get(name, frozenset({label})):
                yield f"{name} has no label {label}"
    # The first two are Prometheus' own.
    labels = frozenset({"instance", "job"}).union(*(series.get(name, frozenset()) for name in names))
    for group in _GROUPING.findall(expression):
        for label in re.split(r"[,\s]+", group.strip()):
            if label not in labels:
                yield f"none of {', '.join(sorted(names))} has a label {label}"


def _compose_faults(compose: dict[str, Any], root: Path) -> Iterator[str]:
    services = compose.get("services", {})
    for name, service in services.items():
        yield from (f"compose: {name}: {fault}" for fault in _service_faults(service, services))
        for variable in service.get("environment", {}):
            yield from _variable_faults(name, variable)
        for volume in service.get("volumes", ()):
            yield from _volume_faults(name, volume, compose, root)
        if "build" in service:
            yield from _build_faults(name, service["build"], root)


def _gpu_faults(over: dict[str, Any], compose: dict[str, Any], root: Path) -> Iterator[str]:
    """Check the file that lies over the other one where there are GPUs, and what it is laid over."""
    strangers = over.get("services", {}).keys() - compose["services"].keys()
    if strangers:
        yield from (f"compose.gpu: {name} is no service of compose.yaml" for name in sorted(strangers))
        return
    merged = _merged(compose, over)
    yield from (f"compose.gpu: {fault}" for fault in _compose_faults(merged, root))
    server = merged["services"]["server"]
    devices = server.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", ())
    if not any(device.get("driver") == "nvidia" and "gpu" in device.get("capabilities", ()) for device in devices):
        yield "compose.gpu: server reserves no GPU"
    stage = _stage(root / "Dockerfile", server["build"]["target"])
    told = re.search(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", stage)
    for wanted in ("compute", "utility", "video"):
        if told is None or wanted not in told[1].split(","):
            yield f"Dockerfile: stage {server['build']['target']} asks the driver for no {wanted}"


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one file over another as compose does, as far as these two need: tables merge, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _stage(dockerfile: Path, name: str) -> str:
    """Read the lines of one stage."""
    stages = re.split(r"^FROM ", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return next((stage for stage in stages if re.match(rf"\S+ AS {re.escape(name)}\n", stage)), "")


def _service_faults(service: dict[str, Any], services: dict[str, Any]) -> Iterator[str]:
    yield from (f"unknown key {key}" for key in sorted(service.keys() - _SERVICE_KEYS))
    if ("image" in service) == ("build" in service):
        yield "either image or build is wanted"
    if "image" in service and not re.search(r":v?\d", service["image"]):
        yield f"image {service['image']} names no version"
    others = service.get("depends_on", ())
    yield from (f"depends on {other}, which is no service" for other in others if other not in services)
    ports = map(str, service.get("ports", ()))
    yield from (f"port {port} is published beyond loopback" for port in ports if not port.startswith("127.0.0.1:"))


def _variable_faults(name: str, variable: str) -> Iterator[str]:
    known = {known for option in options() for known in option.variables}
    if variable.startswith("VEDETTE_") and variable not in known:
        yield f"compose: {name}: the server has no variable {variable}"


def _volume_faults(name: str, volume: str, compose: dict[str, Any], root: Path) -> Iterator[str]:
    source = volume.partition(":")[0]
    if source.startswith("."):
        if not (root / "deploy" / source).exists():
            yield f"compose: {name}: {source} does not exist"
    elif source not in compose.get("volumes", {}):
        yield f"compose: {name}: volume {source} is not declared"


def _page_faults(page: str, compose: dict[str, Any]) -> Iterator[str]:
    """Look for volumes that the page fills beside the compose file's, which bear the project's name before theirs."""
    known = {f"{compose.get('name')}_{volume}" for volume in compose.get("volumes", {})}
    for volume in re.findall(r"--volume ([A-Za-z0-9_-]+):", page):
        if volume not in known:
            yield f"operating.md: volume {volume} is none of the compose file's: {', '.join(sorted(known))}"


def _build_faults(name: str, build: dict[str, str], root: Path) -> Iterator[str]:
    dockerfile = root / "deploy" / build["context"] / build.get("dockerfile", "Dockerfile")
    text = dockerfile.read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    if build["target"] not in stages:
        yield f"compose: {name}: {dockerfile.name} has no stage {build['target']}; there are {', '.join(stages)}"
    for port in (ServerSettings().port, MetricsSettings().port):
        if not re.search(rf"^EXPOSE .*\b{port}\b", text, re.MULTILINE):
            yield f"{dockerfile.name}: port {port} is not exposed"
    for source in re.findall(r"^COPY --from=(\S+)", text, re.MULTILINE):
        if source not in stages:
            yield f"{dockerfile.name}: copies from {source}, which is no stage"


def _prometheus_faults(prometheus: dict[str, Any], compose: dict[str, Any]) -> Iterator[str]:
    targets = [
        target
        for job in prometheus["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    ]
    for target in targets:
        host, _, port = target.partition(":")
        if host not in compose["services"]:
            yield f"prometheus: {host} is no service of compose.yaml"
        if port != str(MetricsSettings().port):
            yield f"prometheus: {target}: the server's metrics are on port {MetricsSettings().port}"
    mounts = [volume.split(":")[1] for volume in compose["services"]["prometheus"]["volumes"]]
    for name in prometheus.get("rule_files", ()):
        if f"/etc/prometheus/{name}" not in mounts:
            yield f"prometheus: rules in {name}, which is not mounted"


def _rule_faults(rules: dict[str, Any]) -> Iterator[str]:
    series = exported_series()
    for group in rules["groups"]:
        for rule in group["rules"]:
            where = f"alerts: {rule.get('alert', '?')}"
            missing = {"alert", "expr", "labels", "annotations"} - rule.keys()
            if missing:
                yield f"{where}: lacks {', '.join(sorted(missing))}"
            yield from (f"{where}: {fault}" for fault in expression_faults(rule.get("expr", ""), series))


def _grafana_faults(folder: Path, compose: dict[str, Any]) -> Iterator[str]:
    for source in _yaml(folder / "provisioning/datasources/prometheus.yaml")["datasources"]:
        host = re.sub(r"^https?://|:\d+$", "", source["url"])
        if host not in compose["services"]:
            yield f"grafana: data source {source['url']}: {host} is no service of compose.yaml"
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    for provider in _yaml(folder / "provisioning/dashboards/vedette.yaml")["providers"]:
        if provider["options"]["path"] not in mounts:
            yield f"grafana: dashboards are looked for in {provider['options']['path']}, where nothing is mounted"


def _datasource_uids(folder: Path) -> set[str]:
    sources = _yaml(folder / "provisioning/datasources/prometheus.yaml")["datasources"]
    return {source["uid"] for source in sources}


def _dashboard_faults(dashboard: dict[str, Any], uids: set[str]) -> Iterator[str]:
    series = exported_series()
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        yield "dashboard: two panels have one id"
    variables = dashboard["templating"]["list"]
    names = {variable["name"] for variable in variables}
    for panel in dashboard["panels"]:
        where = f"dashboard: {panel['title']}"
        if panel["type"] != "row" and not panel.get("targets"):
            yield f"{where}: asks for nothing"
        for target in panel.get("targets", ()):
            if target["datasource"]["uid"] not in uids:
                yield f"{where}: data source {target['datasource']['uid']} is not provisioned"
            yield from (f"{where}: {fault}" for fault in expression_faults(target["expr"], series))
            unknown = set(re.findall(r"\$(?!__)(\w+)", target["expr"])) - names
            yield from (f"{where}: ${name} is not declared" for name in sorted(unknown))
    yield from _dashboard_variable_faults(variables, series)


def _dashboard_variable_faults(variables: list[dict[str, Any]], series: dict[str, frozenset[str]]) -> Iterator[str]:
    for variable in variables:
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
        if asked is None or asked[2] not in series.get(asked[1], ()):
            yield f"dashboard: ${variable['name']}: {variable['definition']} gives nothing"


def _yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise SystemExit(f"{path}: not a mapping")
    return content


def main() -> int:
    """Check, print, and return 1 when there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the project's folder")
    found = faults(parser.parse_args().root)
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    print(f"deploy: {len(found)} faults")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
