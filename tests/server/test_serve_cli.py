from __future__ import annotations

import importlib.util
import subprocess
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

from vedette_server import cli
from vedette_server.errors import SettingsError
from vedette_server.settings_load import load
from vedette_server.settings_options import options
from vedette_server.supervise import Plan

runner = CliRunner()


@pytest.fixture
def served(monkeypatch):
    """Stand in for app.py, which the command only calls: collects the settings it is given."""
    calls = []
    app = types.ModuleType("vedette_server.app")
    app.run = lambda settings: calls.append(settings) or 0
    monkeypatch.setitem(sys.modules, "vedette_server.app", app)
    for name in list(__import__("os").environ):
        if name.startswith("VEDETTE_"):
            monkeypatch.delenv(name)
    # In this process: a supervisor would take its place.
    monkeypatch.setenv("VEDETTE_SUPERVISE_ENABLED", "false")
    return calls


def test_flags_reach_the_server_as_settings(served):
    flags = "--port 0 --engines-dir a --engines-dir b --engine person --max-wait-ms 20 --lanes 2 --metrics-port off"
    result = runner.invoke(cli.serve, [*flags.split(), "--no-reflection", "--log-format", "json"])
    assert (result.exit_code, result.output) == (0, "")
    expected = {
        "server.port": 0,
        "engines.dirs": ["a", "b"],
        "engines.preload": ["person"],
        "engines.max_wait_s": 0.02,
        "engines.lanes": 2,
        "metrics.port": "off",
        "server.reflection": False,
        "log.format": "json",
        "supervise.enabled": False,
    }
    assert served == [load(flags=expected)]


def test_file_and_environment_reach_the_server_below_the_flags(served, tmp_path, monkeypatch):
    file = tmp_path / "v.toml"
    file.write_text("[server]\nport = 1\nmax_channels = 7\n[decode]\nworkers = 3\n")
    monkeypatch.setenv("VEDETTE_SERVER_PORT", "2")
    monkeypatch.setenv("VEDETTE_DECODE_WORKERS", "4")
    runner.invoke(cli.serve, ["--config", str(file), "--port", "3"])
    monkeypatch.setenv("VEDETTE_CONFIG", str(file))
    runner.invoke(cli.serve, [])
    assert [(s.server.port, s.decode.workers, s.server.max_channels) for s in served] == [(3, 4, 7), (2, 4, 7)]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_servers_exit_code_is_the_commands(served, code):
    sys.modules["vedette_server.app"].run = lambda settings: code
    assert runner.invoke(cli.serve, []).exit_code == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port: server.port is '99999'; allowed: a whole number, 0 to 65535"),
        (["--port", "http"], "--port: server.port is 'http'; allowed"),
        (["--lanes", "0"], "--lanes: engines.lanes is '0'; allowed: a whole number, 1 to 64 or auto"),
        (["--log-level", "loud"], "allowed: debug, info, warning, error"),
        (["--host", "0.0.0.0"], "which is not loopback, without TLS"),
        (["--tls-cert", "c.pem"], "tls.certificate is given without tls.key"),
        (["--config", "absent.toml"], "file absent.toml: cannot be read: No such file or directory"),
        (["--engine", "no good"], "engines.preload has 'no good'"),
    ],
)
def test_a_wrong_value_gets_one_line_and_exit_code_2(served, arguments, message):
    result = runner.invoke(cli.serve, arguments)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("vedette serve: ")
    assert message in line
    assert result.stdout == ""
    assert not served


class BecameError(Exception):
    """What this process would have become."""


@pytest.fixture
def became(served, monkeypatch):
    """Let the command supervise, and catch what it puts in this process's place."""

    def execv(path, arguments):
        raise BecameError(path, arguments)

    monkeypatch.delenv("VEDETTE_SUPERVISE_ENABLED")
    monkeypatch.setattr(cli.os, "execv", execv)

    def run(*arguments):
        result = runner.invoke(cli.serve, arguments)
        assert isinstance(result.exception, BecameError), result.output
        path, argv = result.exception.args
        assert path == argv[0] == sys.executable
        assert argv[1:4] == ["-P", "-m", "vedette_server.supervise"]
        assert argv[5:9] == [sys.executable, "-P", "-m", "vedette_server"]
        return Plan.read(argv[4]), argv[9:]

    return run


def test_the_worker_of_the_supervisor_gets_the_settings_that_were_given(became, served, tmp_path):
    file = tmp_path / "v.toml"
    file.write_text("[server]\nmax_channels = 7\n")
    flags = ["--config", str(file), "--engine", "a", "--engine", "b@2", "--max-wait-ms", "20", "--no-reflection"]
    flags += ["--metrics-port", "off", "--state-file", "--odd name", "--insecure"]
    _, worker_flags = became(*flags)
    assert runner.invoke(cli.worker, worker_flags).exit_code == 0
    assert runner.invoke(cli.worker, flags).exit_code == 0
    assert served[0] == served[1]
    assert served[0].engines.preload == ("a", "b@2")


def test_the_supervisor_is_told_what_the_settings_say(became):
    plan, _ = became("--port", "0", "--max-restarts", "2", "--hang-timeout-s", "9", "--log-format", "json")
    assert (plan.host, plan.port, plan.metrics_port, plan.json) == ("127.0.0.1", 0, 9464, True)
    assert (plan.limits.most, plan.limits.backoff_s, plan.patience.hang_s) == (2, 1.0, 9.0)
    plan, _ = became("--metrics-port", "off")
    assert plan.metrics_port is None


@pytest.mark.parametrize("arguments", [["--port", "many"], ["--hang-timeout-s", "1"], ["--restart-backoff-s", "60"]])
def test_wrong_settings_are_told_before_there_is_a_supervisor(became, arguments):
    result = runner.invoke(cli.serve, arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_without_supervision_and_as_the_worker_it_serves_in_this_process(became, served):
    assert runner.invoke(cli.serve, ["--no-supervise"]).exit_code == 0
    assert runner.invoke(cli.worker, ["--supervise"]).exit_code == 0
    assert len(served) == 2


def test_an_error_of_the_start_gets_one_line_and_exit_code_2(served):
    def refuse(settings):
        raise SettingsError("server.port is 5, which is taken")

    sys.modules["vedette_server.app"].run = refuse
    result = runner.invoke(cli.serve, [])
    assert (result.exit_code, result.stderr) == (2, "vedette serve: server.port is 5, which is taken\n")


@pytest.mark.parametrize("library", ["onnxruntime", "structlog", "cv2"])
def test_a_missing_library_names_the_extras(served, monkeypatch, library):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else find_spec(name))
    result = runner.invoke(cli.serve, [])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"vedette serve: {library} not installed;")
    assert "'vedette[cpu]'" in result.stderr
    assert "'vedette[gpu]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_command_imports_nothing_of_the_server_before_it_runs():
    code = (
        "import sys, vedette_server.cli\n"
        "heavy = {'grpc', 'numpy', 'cv2', 'onnxruntime', 'structlog', 'prometheus_client', 'av', 'psutil'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_paths())
    assert (done.returncode, done.stderr) == (0, "")


def _paths() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(path for path in sys.path if path)}


def test_the_help_tells_every_flag_with_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERMINAL_WIDTH", "250")
    result = runner.invoke(cli.serve, ["--help"], terminal_width=250)
    assert result.exit_code == 0
    words = " ".join(result.output.replace("│", " ").split())
    for option in options():
        assert option.flag in words
        assert option.help in words, option.name
    assert words.count("(default: ") + words.count("; default: ") >= len(options())
    assert "default: 5 ms" in words
    assert "default: 8388608 bytes" in words


def test_the_printed_settings_are_those_in_effect_and_read_back(served, tmp_path):
    first = runner.invoke(cli.serve, ["--port", "7", "--print-settings"])
    file = tmp_path / "printed.toml"
    file.write_text(first.stdout)
    second = runner.invoke(cli.serve, ["--config", str(file), "--print-settings"])
    assert first.exit_code == second.exit_code == 0
    assert "\nport = 7\n" in first.stdout
    assert second.stdout == first.stdout
    assert not served


def test_the_command_can_be_mounted_beside_others(served):
    main = typer.Typer()
    main.add_typer(cli.serve)
    main.command("other")(lambda: None)
    assert runner.invoke(main, ["serve", "--port", "0"]).exit_code == 0
    assert len(served) == 1
