"""Logs: redacted, and the same bytes however they are cut."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents_app.runner.events import EventStream, TextStream
from agents_app.runner.log import RunLog
from agents_app.runner.process import ProcessRecord, TerraformProcess
from agents_app.runner.rescue import _dumped

_SECRETS = ["hunter2-secret", "hunter2", "ünïcode-secret"]
_TEXT = "before hunter2-secret hunter2 hunter2-secre hunter2-hunter2-secret ünïcode-secret end"


@given(cuts=st.lists(st.integers(0, len(_TEXT)), max_size=12))
def test_cuts_never_change_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    whole, pieces = RunLog(folder / "a", _SECRETS, 10**6), RunLog(folder / "b", _SECRETS, 10**6)
    whole.write(_TEXT)
    edges = [0, *sorted(cuts), len(_TEXT)]
    for start, end in itertools.pairwise(edges):
        pieces.write(_TEXT[start:end])
    whole.close()
    pieces.close()
    content = (folder / "a").read_bytes()
    assert content == (folder / "b").read_bytes()
    assert b"hunter2-secret" not in content and b"[redacted]" in content


@given(limit=st.integers(50, 150), offset=st.integers(0, 60), cut=st.integers(0, len(_TEXT)))
def test_what_is_written_again_after_a_restart_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, limit: int, offset: int, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = RunLog(folder / "log", _SECRETS, limit)
    log.write("x" * offset)
    log.flush()
    begun = log.size
    log.write(_TEXT)
    log.close()
    first, truncated = (folder / "log").read_bytes(), log.truncated

    # A new process with renewed secrets, the old ones remembered.
    again = RunLog(folder / "log", ["another-secret"], limit)
    again.rewind(begun, _SECRETS)
    again.write(_TEXT[:cut])
    again.write(_TEXT[cut:])
    again.close()
    assert (folder / "log").read_bytes() == first
    assert again.truncated == truncated and again.size == len(first) <= limit


def test_a_log_ends_at_its_limit_with_a_notice(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", [], 200)
    for _ in range(100):
        log.write("ten bytes\n")
    log.close()
    content = (tmp_path / "log").read_bytes()
    assert len(content) == 200 and content.endswith(b"reached its limit]\n")
    again = RunLog(tmp_path / "log", [], 200)
    assert again.truncated
    again.close()


def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", [], 200)
    log._file.close()
    log._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    log.write("text")
    log.write("more")
    assert log.truncated and log.size == 0
    log.close()


# --- events ------------------------------------------------------------------------------


def _line(kind: str, message: str = "message", **fields: object) -> bytes:
    return json.dumps({"@message": message, "type": kind, **fields}).encode() + b"\n"


_EVENTS = [
    _line("version", "Terraform 1.11.4"),
    _line("planned_change", "repeated by the plan's text"),
    _line("apply_start", "one: Creating..."),
    _line(
        "provision_progress",
        hook={"resource": {"addr": "one"}, "provisioner": "local-exec", "output": "hi"},
    ),
    _line(
        "diagnostic",
        diagnostic={
            "severity": "error",
            "summary": "It failed",
            "detail": "Because.",
            "range": {"filename": "main.tf", "start": {"line": 3}},
            "snippet": {"code": "x = 1"},
        },
    ),
    _line("log", "Emergency state dump", state={"lineage": "SECRETSTATE"}),
    b"panic: not a message\n",
    _line("change_summary", "Apply complete!", changes={"operation": "apply"}),
]
_EXPECTED = (
    "one: Creating...\n"
    "one (local-exec): hi\n"
    "\x1b[31m╷\x1b[0m\n"
    "\x1b[31m│\x1b[0m \x1b[1mError: It failed\x1b[0m\n"
    "\x1b[31m│\x1b[0m   on main.tf line 3:\n"
    "\x1b[31m│\x1b[0m   x = 1\n"
    "\x1b[31m│\x1b[0m \n"
    "\x1b[31m│\x1b[0m Because.\n"
    "\x1b[31m╵\x1b[0m\n"
    "Emergency state dump\n"
    "panic: not a message\n"
    "\x1b[1mApply complete!\x1b[0m\n"
)


@given(cuts=st.lists(st.integers(0, len(b"".join(_EVENTS))), max_size=6))
def test_a_growing_stream_reads_as_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("events") / "stdout"
    path.touch()
    stream = EventStream(path)
    data, text = b"".join(_EVENTS), ""
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        with path.open("ab") as file:
            file.write(data[start:end])
        text += "".join(stream.read())
    text += "".join(stream.read(last=True))
    assert text == _EXPECTED
    assert stream.acted and stream.completed
    (diagnostic,) = stream.diagnostics
    assert (diagnostic.summary, diagnostic.filename, diagnostic.line) == ("It failed", "main.tf", 3)


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[]\n",
        b'{"type": "diagnostic"}\n',
        _line("diagnostic"),
        _line("diagnostic", diagnostic={"severity": None, "range": None}),
        _line("provision_progress", hook=None),
        _line("change_summary", changes=None),
        b'{"@message": 3}\n',
        b"\xff\xfe\n",
        b"no end of line",
    ],
)
def test_strange_messages_do_not_stop_it(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(line + (b"" if line.endswith(b"line") else _line("log", "after")))
    text = "".join(EventStream(path).read(last=True))
    assert text.endswith("after\n") or "no end of line" in text


def test_a_state_whose_dump_was_cut_off_stays_out_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_text(
        '{"@level":"error","@message":"Emergency state dump","state":{"password":"hunt'
        '\n{"@level":"error","@message":"Emergency state dump","state":{"password":"hunt'
    )
    text = "".join(EventStream(path).read(last=True))
    assert text == "Emergency state dump (cut off)\n" * 2


def test_diagnostics_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(_EVENTS[4] * 1000)
    stream = EventStream(path)
    list(stream.read(last=True))
    assert len(stream.diagnostics) == 100


def test_diagnostics_of_text(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    path.write_text(
        "Initializing...\n"
        "\x1b[31m╷\x1b[0m\n│ \x1b[1mError: \x1b[0mFailed to query\n│ \n"
        "│   on versions.tf line 4:\n│ Could not\n│ reach it.\n╵\n"
        "Warning: Old\n"
    )
    stream = TextStream(path)
    assert "".join(stream.read(last=True)) == path.read_text()
    first, second = stream.diagnostics
    assert (first.severity, first.summary) == ("error", "Failed to query")
    assert (first.filename, first.line) == ("versions.tf", 4)
    assert first.detail == "Could not\nreach it."
    assert (second.severity, second.summary) == ("warning", "Old")


def test_a_dumped_state_is_taken_byte_for_byte(tmp_path: Path) -> None:
    state = '{"lineage":"a","big":12345678901234567890.10,"text":"\\u003c \\"state\\":{"}'
    path = tmp_path / "stdout"
    path.write_text(
        '{"@message":"noise"}\n'
        f'{{"@message":"Emergency state dump","state":{state},"type":"log"}}\n'
    )
    assert _dumped(path) == state.encode()


def test_no_dump_no_state(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_text('{"@message":"Apply complete!"}\n')
    assert _dumped(path) is None
    assert not TerraformProcess(tmp_path, ProcessRecord(-1, "")).ran()
