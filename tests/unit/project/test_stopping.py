"""Stopping the platform: the agents are signalled, and what they run gets its one SIGINT."""

import os
import signal
import subprocess
import sys

from config.launch import Platform

#: Notes every signal in a file; "terraform" ends a while after its first SIGINT.
NOTES = """
import os, signal, sys, time
name, stubborn = sys.argv[1], sys.argv[2] == "stubborn"
got = []
def note(number, frame):
    got.append(number)
    with open(name, "a") as file:
        file.write(signal.Signals(number).name + "\\n")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
open(name + ".ready", "w").close()
while not (signal.SIGINT in got and not stubborn):
    time.sleep(0.05)
time.sleep(1)
with open(name, "a") as file:
    file.write("saved\\n")
"""
#: What an agent does: a supervisor in a session of its own, and one SIGINT after two signals.
AGENT = """
import os, psutil, signal, subprocess, sys, time
notes, mode = sys.argv[1], sys.argv[2]
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(number))
script = '"$1" -c "$2" provider stubborn & "$1" -c "$2" terraform "$3"; kill -9 $!'
supervisor = subprocess.Popen(
    ["/bin/sh", "-c", script, "slipway-supervisor", sys.executable, notes, mode],
    start_new_session=True,
)
while not all(os.path.exists(name + ".ready") for name in ("provider", "terraform")):
    time.sleep(0.05)
terraform = [
    child for child in psutil.Process().children(recursive=True)
    if child.cmdline()[3:4] == ["terraform"]
]
open("agent.ready", "w").close()
sent = False
while supervisor.poll() is None:
    if len(got) > 1 and not sent:
        sent = True
        terraform[0].send_signal(signal.SIGINT)
    time.sleep(0.05)
"""
PROGRAM = """
import os, subprocess, sys, threading, time
from config import processes
agent, notes, mode = sys.argv[1:]
processes.adopt_orphans()
started = subprocess.Popen(
    [sys.executable, "-c", agent, notes, mode, "run_agent"], start_new_session=True
)
while not os.path.exists("agent.ready"):
    assert started.poll() is None
    time.sleep(0.05)
hurry, cut = threading.Event(), threading.Event()
hurry.set()
if mode == "stubborn":
    threading.Timer(3, cut.set).start()
processes.end_descendants(60, hurry, cut, say=lambda line: print(line, flush=True))
print("left", [p.pid for p in processes._descendants(())])
"""


def _stop(tmp_path, mode):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, AGENT, NOTES, mode],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stdout


def test_terraform_gets_one_signal_and_time_to_save(tmp_path):
    said = _stop(tmp_path, "willing")
    assert (tmp_path / "terraform").read_text() == "SIGINT\nsaved\n"
    assert not (tmp_path / "provider").exists(), "a provider gets no signal"
    assert "Interrupting Terraform" in said and "CUT" not in said
    assert "left []" in said


def test_whoever_cannot_wait_is_told_that_terraform_was_cut(tmp_path):
    said = _stop(tmp_path, "stubborn")
    assert (tmp_path / "terraform").read_text() == "SIGINT\n"
    assert "CUT" in said and "left []" in said


def test_each_signal_asks_for_more(tmp_path):
    platform = Platform(tmp_path, 0, say=print)
    asked = (platform.stop, platform.impatient, platform.cut)
    with platform._signals():
        for number in (1, 2, 3):
            signal.raise_signal(signal.SIGINT)
            assert [event.is_set() for event in asked] == [n <= number for n in (1, 2, 3)]
