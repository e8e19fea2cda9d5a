"""The command line: what it costs, and what it says when something is wrong."""

from __future__ import annotations

import re

import pytest

import support_cli
from vedette_client.cli import reach
from vedette_client.cli.main import run
from vedette_client.errors import OptionsError

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("VEDETTE_SERVER", raising=False)
    monkeypatch.delenv("VEDETTE_TOKEN", raising=False)


def test_the_list_of_commands_imports_nothing_dear() -> None:
    code = (
        "import sys\nfrom vedette_client.cli.main import run\nassert run(['--help']) == 0\n"
        "dear = {'cv2', 'onnxruntime', 'av', 'numpy', 'PIL', 'vedette_server', 'vedette_engines'}\n"
        "print(sorted(dear & set(sys.modules)))"
    )
    said = support_cli.finish(support_cli.start(code=code))
    assert said.out.splitlines()[-1] == "[]", said.err
    assert all(name in said.out for name in ("serve", "stream", "watch", "loadtest", "demo", "engine"))


def test_no_command_at_all_shows_the_commands(capsys) -> None:
    assert run([]) == 0
    assert "loadtest" in capsys.readouterr().out


def test_the_version_is_said(capsys) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"vedette \d+\.\d+\S*\n", capsys.readouterr().out)


def test_a_clip_that_cannot_be_written_costs_no_earlier_verdicts(tmp_path, capsys) -> None:
    kept = tmp_path / "old.jsonl"
    kept.write_text("earlier\n")
    args = ["stream", "synthetic:blobs", "--server", NOWHERE, "--jsonl", str(kept), "--annotate"]
    assert run([*args, str(tmp_path / "out.avi")]) == 2
    assert "a name that ends in .mp4 is wanted" in capsys.readouterr().err
    assert kept.read_text() == "earlier\n"


@pytest.mark.parametrize("command", ["stream", "watch", "loadtest", "demo", "serve"])
def test_every_option_tells_its_default(command, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert run([command, "--help"]) == 0
    page = capsys.readouterr().out
    options = [line for line in page.splitlines() if re.match(r"│\s+--", line) and "<bool>" not in line]
    assert options
    assert [line for line in options if "efault: " not in line] == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nonsense"], "vedette: No such command 'nonsense'."),
        (["strem"], "Did you mean 'stream'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["stream"], "vedette stream: Missing argument 'SOURCE...'."),
        (["stream", "synthetic:blobs", "--max-fps", "fast"], "'--max-fps'"),
        (["stream", "synthetic:blobs", "--max-fps", "0"], "max_fps is 0; above 0"),
        (["stream", "synthetic:blobs", "--policy", "eager"], "'--policy'"),
        (["stream", "synthetic:blobs", "--min-score", "2"], "min_score is 2;"),
        (["stream", "synthetic:blobs", "--priority", "0"], "priority is 0;"),
        (["stream", "synthetic:blobs", "--server", "nowhere"], "--server is 'nowhere'; HOST:PORT is wanted"),
        (["stream", "synthetic:blobs", "--server", "h:99999"], "--server is 'h:99999'"),
        (["stream", "synthetic:nothing"], "synthetic scene 'nothing' is unknown"),
        (["stream", "no-such-file.mp4"], "no-such-file.mp4: there is no such file"),
        (["stream", "synthetic:blobs", "--channel", "a", "--channel", "b"], "--channel is given 2 times for 1 sources"),
        (["stream", "synthetic:blobs", "--channel", "a/b"], "channel is 'a/b'"),
        (["stream", "synthetic:blobs", "--jsonl", "no/such/dir/x"], "--jsonl is 'no/such/dir/x'; it cannot be written"),
        (["stream", "synthetic:blobs", "--annotate", "x.avi"], "--annotate is 'x.avi'; a name that ends in .mp4"),
        (["stream", "synthetic:blobs", "--annotate", "no/such/x.mp4"], "there is no directory no/such"),
        (["stream", "synthetic:blobs", "--tls-ca", "no-such.pem"], "no-such.pem cannot be read"),
        (["stream", "synthetic:blobs", "--tls-cert", "no-such.pem"], "a client certificate and its key go together"),
        (["watch", "--every", "0"], "'--every'"),
        (["loadtest", "--channels", "0"], "'--channels'"),
        (["loadtest", "--fps", "0"], "fps is 0;"),
        (["loadtest", "--html", "no/such/page.html"], "there is no directory no/such"),
        (["loadtest", "--source", "no-such-file.mp4", "--server", NOWHERE], "no-such-file.mp4: there is no such file"),
        (["demo", "no-such-file.mp4", "--out", "out"], "no-such-file.mp4: there is no such file"),
        (["serve", "--port", "many"], "--port"),
        (["engine", "inspect", "no-such-engine"], "no-such-engine"),
    ],
)
def test_a_wrong_command_line_gets_one_line_and_exit_code_2(args, words, capfd, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(args) == 2
    out, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert words in err
    assert "Traceback" not in err
    assert args[0] != "stream" or out == ""


def test_a_command_whose_library_is_missing_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['vedette_engines.cli'] = None\n"
        "from vedette_client.cli.main import main; main(['engine', 'list'])"
    )
    said = support_cli.finish(support_cli.start(code=code))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "pip install 'vedette[cpu]'" in said.err
    assert "pip install 'vedette[gpu]'" in said.err


def test_a_server_that_is_not_there_gets_one_line_and_exit_code_1() -> None:
    commands = [
        ("watch", "--once", "--server", NOWHERE),
        ("stream", "synthetic:blobs", "synthetic:blobs?seed=2", "--server", NOWHERE),
        ("loadtest", "--server", NOWHERE, "--channels", "2", "--source", "synthetic:blobs"),
    ]
    for said in [support_cli.finish(one) for one in [support_cli.start(*command) for command in commands]]:
        assert (said.code, said.err.count("\n")) == (1, 1), said
        assert "127.0.0.1:1" in said.err


def test_tls_is_on_as_soon_as_one_of_its_options_is_given(tmp_path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("not looked into here")
    plain = reach.reach("h:1", False, None, None, None, "")
    assert (plain.tls, plain.token) == (None, None)
    assert reach.reach("h:1", True, None, None, None, None).tls is not None
    secure = reach.reach("[::1]:1", False, ca, None, None, "t")
    assert secure.tls is not None
    assert (secure.tls.ca, secure.token, secure.host, secure.port) == (ca, "t", "::1", 1)
    assert secure.through("127.0.0.1:5").tls.server_name == "::1"
    with pytest.raises(OptionsError):
        reach.reach("no-port", False, None, None, None, None)
