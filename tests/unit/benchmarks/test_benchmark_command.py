"""The interface of `python -m benchmarks`: listing, documents, exit codes."""

import importlib
import inspect
import json

import pytest

from benchmarks import __main__ as command
from benchmarks import kinds, startup, wake
from benchmarks.bench import Confirmed, Start
from benchmarks.result import Bar, CannotMeasure, Result, percentile, summary
from benchmarks.startup import Samples


def result(*bars):
    return Result("wake", 3, {"wake_ms": {"p50": 1.0}}, list(bars), machine="a test")


@pytest.fixture
def measured(monkeypatch):
    """Let the benchmark `wake` give a result, or raise."""

    def use(outcome):
        def run(runs):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(wake, "run", run)

    return use


def test_it_lists_what_there_is(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(command.BENCHMARKS)


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_every_benchmark_can_be_run(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert list(inspect.signature(module.run).parameters) == ["runs"]
    assert module.RUNS >= 1


@pytest.mark.parametrize(("value", "code"), [(99.0, 0), (100.0, 0), (100.1, 1)])
def test_the_exit_code_says_whether_the_bars_hold(measured, capsys, value, code):
    measured(result(Bar("memory", 1, 200), Bar("p99", value, 100)))
    assert command.main(["wake", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["name", "machine", "runs", "figures", "bars"]
    assert document["bars"][1] == {"name": "p99", "value": value, "bar": 100, "ok": code == 0}


def test_what_cannot_be_measured_is_an_error(measured, capsys):
    measured(CannotMeasure("Install Go."))
    assert command.main(["wake", "--json"]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out) == {"name": "wake", "error": "Install Go."}
    assert "Install Go." in output.err


@pytest.mark.parametrize("arguments", [["sleep"], ["wake", "--runs", "0"]])
def test_wrong_use_is_an_error(arguments):
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2


def test_without_go_startup_says_so(monkeypatch):
    monkeypatch.setattr(kinds.shutil, "which", lambda name: None)
    with pytest.raises(CannotMeasure, match="Go is not installed"):
        kinds.zipped_mirror()


def test_people_see_what_falls_short():
    text = result(Bar("p99", 120, 100)).text()
    assert "MISS  p99: 120, at most 100" in text


def test_figures_of_a_sample():
    assert percentile([5, 1, 4, 2, 3], 50) == 3
    assert percentile(range(1, 201), 99) == 198
    assert percentile([7], 99) == 7
    assert summary([1.0, 2.0, 9.0]) == {"p50": 2.0, "p99": 9.0, "max": 9.0}


def test_startup_is_judged_by_medians():
    samples = {}
    for kind in kinds.KINDS:
        samples[kind.name] = Samples()
        for way, ms in {"by_hand": 100, "kept": 150, "normal": 400, "rebuilt": 2000}.items():
            for extra in (0, 1, 500):
                start = Start(process=10.005, first_action=10 + (ms + extra) / 1000)
                samples[kind.name].add(way, Confirmed(begun=10.0, start=start, seen=11.0))
    judged = {bar.name: bar for bar in startup._judge(3, samples).bars}
    assert not judged["large: kept to by hand"].ok  # 151 to 101
    assert judged["large: kept to rebuilt from a zipped mirror"].ok
    assert judged["small: kept more than by hand, ms"].value == pytest.approx(50)
    assert judged["built-in: kept more than by hand, ms"].ok
