"""What `scripts/test` prepares, and what it says when it cannot."""

import subprocess

import pytest

from tests import run
from tests.tools import build


@pytest.fixture
def in_ci(monkeypatch):
    """A run as root in CI on a machine without Chromium."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(run.shutil, "which", lambda name: None)


def test_a_browser_that_cannot_be_installed_is_a_failure(in_ci, monkeypatch, capsys):
    refused = subprocess.CompletedProcess([], 100, stdout="Temporary failure resolving")
    monkeypatch.setattr(run.subprocess, "run", lambda *args, **kwargs: refused)
    assert not run.install_browser()
    assert "Temporary failure resolving" in capsys.readouterr().out


def test_a_machine_without_apt_says_what_to_do(in_ci, monkeypatch, capsys):
    def absent(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(run.subprocess, "run", absent)
    assert not run.install_browser()
    assert "install Chromium" in capsys.readouterr().out


def test_outside_ci_nothing_is_installed(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(run.subprocess, "run", None)
    assert run.install_browser()


def test_providers_that_do_not_build_are_a_failure(monkeypatch, capsys):
    def fail():
        raise build.BuildFailed("go build: no space left")

    monkeypatch.setattr(run.shutil, "which", lambda name: "/usr/bin/go")
    monkeypatch.setattr(run.build, "zipped_mirror", fail)
    assert not run.build_tools()
    assert "no space left" in capsys.readouterr().out


def test_an_unknown_group_is_a_usage_error(capsys):
    assert run.main(["unit", "integration"]) == 2
    assert "integration" in capsys.readouterr().err


def test_an_api_server_that_does_not_build_is_a_failure(monkeypatch, capsys):
    def fail():
        raise build.BuildFailed("go build: no space left")

    monkeypatch.setattr(run.shutil, "which", lambda name: "/usr/bin/go")
    monkeypatch.setattr(run.apiserver, "programs", fail)
    assert not run.build_api_server()
    assert "no space left" in capsys.readouterr().out
