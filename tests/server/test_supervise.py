"""The supervisor as a process, over workers that are a few lines each."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support_supervise import ROOT, Supervised
from vedette_server.restarts import Limits
from vedette_server.supervise import GAVE_UP, Plan
from vedette_server.worker_process import Patience

QUICK = Plan(limits=Limits(backoff_s=0.05, backoff_max_s=0.1, most=3), patience=Patience(20.0, 20.0))
IMPATIENT = QUICK._replace(patience=Patience(3.0, 2.0, abort_s=0.5))
SERVE = "serve()"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the supervisor is for POSIX")


def gone(pid: int) -> bool:
    """Wait until a process is no more, or is a zombie of somebody else's."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_worker_killed_by_a_signal_is_started_again(number: signal.Signals) -> None:
    with Supervised(SERVE, QUICK) as supervised:
        os.kill(supervised.worker(0), number)
        line = supervised.wait_for("worker ended")
        assert re.fullmatch(
            rf"vedette: worker ended \({number.name}.*\), restart in 0.0\d+ s \(1 of 3 within 10 min\)", line
        )
        supervised.worker(1)
        supervised.tell(signal.SIGTERM)
        assert supervised.code() == 0


def test_a_lost_device_is_a_reason_to_start_again_and_the_worker_is_told_what_happened() -> None:
    code = "say('past', json.dumps(lifeline.past)); serve(lambda: number < 2 and os._exit(70 if number else 1))"
    with Supervised(code, QUICK) as supervised:
        assert json.loads(supervised.wait_for("past")[5:]) == [{}, "", 0.0]
        assert "(exit code 1)" in supervised.wait_for("worker ended")
        restarts, last, at_s = json.loads(supervised.wait_for("past")[5:])
        assert (restarts, last) == ({"exit": 1}, "exit")
        assert abs(at_s - time.time()) < 60
        assert "(device lost, exit code 70)" in supervised.wait_for("worker ended")
        assert json.loads(supervised.wait_for("past")[5:])[:2] == [{"exit": 1, "device_lost": 1}, "device_lost"]
        supervised.worker(2)


@pytest.mark.parametrize("code", [0, 2])
def test_a_worker_that_ends_by_itself_or_has_wrong_settings_is_not_started_again(code: int) -> None:
    with Supervised(f"sys.exit({code})", QUICK) as supervised:
        assert supervised.code() == code
        assert supervised.output == ""


def test_settings_that_were_right_once_are_no_reason_to_give_up_at_once() -> None:
    """A restarted worker may find its port still taken; the one before served with the same settings."""
    with Supervised("number == 1 and sys.exit(2)\nserve(lambda: number == 0 and os._exit(1))", QUICK) as supervised:
        assert "(exit code 2)" in supervised.wait_for("2 of 3")
        supervised.worker(2)


def test_it_gives_up_when_workers_end_again_and_again() -> None:
    with Supervised("say('try'); os.kill(os.getpid(), signal.SIGKILL)", QUICK) as supervised:
        assert supervised.code() == GAVE_UP
        assert supervised.lines.count("try\n") == 4
        assert supervised.lines[-1] == (
            "vedette: worker ended (SIGKILL: out of memory?), giving up: more than 3 within 10 min\n"
        )


def test_a_command_that_cannot_be_started_is_tried_again_and_given_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vedette_server.supervise", QUICK.text(), "/no/such/python"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "server")},
    )
    assert done.returncode == GAVE_UP
    assert done.stderr.count("cannot be started: No such file or directory") == 4


def test_the_first_signal_drains_the_second_stops_and_the_third_kills() -> None:
    with Supervised("serve(stubborn=True)", QUICK) as supervised:
        pid = supervised.worker(0)
        supervised.tell(signal.SIGTERM)
        supervised.wait_for("worker 0 SIGTERM")
        supervised.tell(signal.SIGINT)
        supervised.wait_for("worker 0 stop now")
        assert supervised.code() == 0
        assert gone(pid)
        assert "restart" not in supervised.output
    deaf = "signal.signal(signal.SIGTERM, lambda *_: say('no'))\nsay('worker 0 serves 1')\nwhile True: time.sleep(1)"
    with Supervised(deaf, QUICK) as supervised:
        supervised.wait_for("serves")
        for _ in range(2):
            supervised.tell(signal.SIGTERM)
            supervised.wait_for("no")
        supervised.tell(signal.SIGTERM)
        assert supervised.code() == 128 + signal.SIGKILL


def test_a_hangup_is_passed_on_unless_nohup_is_in_force() -> None:
    with Supervised(SERVE, QUICK) as supervised:
        supervised.worker(0)
        supervised.tell(signal.SIGHUP)
        supervised.wait_for("worker 0 SIGHUP")
        assert supervised.code() == 0
    with Supervised(SERVE, QUICK, ("nohup",)) as supervised:
        supervised.worker(0)
        supervised.tell(signal.SIGHUP)
        supervised.tell(signal.SIGTERM)
        supervised.wait_for("worker 0 SIGTERM")
        assert supervised.code() == 0
        assert "SIGHUP" not in supervised.output


def test_a_worker_that_is_told_to_stop_before_it_listens_ends_in_good_order() -> None:
    with Supervised("say('worker 0 serves 1'); time.sleep(60)", QUICK) as supervised:
        supervised.wait_for("serves")
        supervised.tell(signal.SIGTERM)
        assert supervised.code() == 0


def test_a_signal_while_it_waits_to_restart_ends_it() -> None:
    with Supervised("os._exit(1)", QUICK._replace(limits=Limits(backoff_s=600.0, backoff_max_s=600.0))) as supervised:
        supervised.wait_for("restart in")
        supervised.tell(signal.SIGTERM)
        assert supervised.code() == 0


def test_a_worker_that_fails_while_it_drains_is_not_started_again() -> None:
    with Supervised("serve(); sys.exit(5)", QUICK) as supervised:
        supervised.worker(0)
        supervised.tell(signal.SIGTERM)
        assert supervised.code() == 5
        assert "worker 1" not in supervised.output


def test_a_worker_whose_loop_stands_still_tells_where_and_is_started_again() -> None:
    code = "def stuck_here():\n    while True: time.sleep(1)\nserve(lambda: number == 0 and stuck_here())"
    with Supervised(code, IMPATIENT) as supervised:
        supervised.worker(0)
        assert "(hung: no beat for 2 s)" in supervised.wait_for("worker ended")
        supervised.worker(1)
        assert "Fatal Python error: Aborted" in supervised.output
        assert "in stuck_here" in supervised.output


def test_a_worker_without_a_sign_of_life_is_started_again() -> None:
    code = (
        "if number == 0:\n    faulthandler.disable()\n"
        "    signal.signal(signal.SIGABRT, signal.SIG_IGN)\n    time.sleep(60)\nserve()"
    )
    with Supervised(code, IMPATIENT) as supervised:
        # SIGABRT does not help here.
        assert "(hung: no beat for 3 s)" in supervised.wait_for("worker ended")
        supervised.worker(1)


def test_a_supervisor_that_stood_still_itself_does_not_blame_the_worker() -> None:
    with Supervised(SERVE, IMPATIENT) as supervised:
        pid = supervised.worker(0)
        supervised.tell(signal.SIGSTOP)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3.5)
        supervised.tell(signal.SIGCONT)
        time.sleep(0.2)
        os.kill(pid, signal.SIGCONT)
        time.sleep(1.0)
        supervised.tell(signal.SIGTERM)
        supervised.wait_for("worker 0 SIGTERM")
        assert supervised.code() == 0
        assert "ended" not in supervised.output


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel sees to it on Linux only")
def test_the_worker_dies_with_the_supervisor_even_when_it_hangs() -> None:
    for code in (SERVE, "serve(lambda: time.sleep(60))"):
        with Supervised(code, QUICK) as supervised:
            pid = supervised.worker(0)
            supervised.process.kill()
            assert gone(pid)


def test_every_worker_gets_the_same_ports_and_nobody_else_gets_them_meanwhile() -> None:
    code = "say('ports', *sys.argv[1:]); serve(lambda: number == 0 and os._exit(1))"
    with Supervised(code, QUICK._replace(metrics_port=0)) as supervised:
        first = supervised.wait_for("ports")
        assert supervised.wait_for("ports") == first
        port, metrics = map(int, re.fullmatch(r"ports --port=(\d+) --metrics-port=(\d+)", first).groups())
        assert port != metrics
        if sys.platform == "linux":
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_left_to_the_worker_to_complain_about() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with Supervised("say(*sys.argv[1:]); sys.exit(2)", QUICK._replace(port=number)) as supervised:
            assert supervised.code() == 2
            assert supervised.lines == [f"--port={number}\n"]


@pytest.mark.skipif(not os.access("/usr/bin/unshare", os.X_OK), reason="unshare is not installed")
def test_as_process_1_it_reaps_the_children_of_others(tmp_path: Path) -> None:
    wrapper = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces of one's own here")
    code = (
        "if os.fork() == 0:\n    os.fork() == 0 and (time.sleep(0.3), os._exit(0))\n    os._exit(0)\n"
        "os.wait(); time.sleep(1)\n"
        "say('parent', os.getppid(), 'zombies', [p for p in os.listdir('/proc') if p.isdigit() and "
        "') Z ' in pathlib.Path('/proc', p, 'stat').read_text()])"
    )
    with Supervised(code, QUICK, wrapper) as supervised:
        assert supervised.wait_for("parent") == "parent 1 zombies []"
        assert supervised.code() == 0


def test_in_json_its_lines_are_json() -> None:
    with Supervised("os._exit(70)", QUICK._replace(json=True, limits=QUICK.limits._replace(most=1))) as supervised:
        assert supervised.code() == GAVE_UP
        warning, error = map(json.loads, supervised.lines)
        assert (warning["level"], warning["reason"], error["level"]) == ("warning", "device_lost", "error")
        assert warning["wait_s"] == pytest.approx(0.05, rel=0.2)


def test_it_imports_nothing_that_computes_and_stays_small() -> None:
    code = (
        "import sys, vedette_server.supervise\n"
        "heavy = {'grpc', 'numpy', 'cv2', 'typer', 'rich', 'structlog', 'asyncio', 'subprocess', 'dataclasses'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    environ = {"PYTHONPATH": str(ROOT / "server")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.strip() == "[]"


def test_a_plan_survives_its_way_over_the_command_line() -> None:
    plan = Plan("::1", 5, "localhost", None, True, Limits(0.5, 9.0, 1.0, 2, 30.0), Patience(1.0, 0.0))
    assert Plan.read(plan.text()) == plan
