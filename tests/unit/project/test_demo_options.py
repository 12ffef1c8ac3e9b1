"""`scripts/demo`: options that do not fit are refused before anything is touched."""

import sys

import pytest

from config import demo


def refused(monkeypatch, capsys, *arguments):
    """Return what is said of arguments that are refused."""
    monkeypatch.setattr(sys, "argv", ["scripts/demo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_folder_with_other_files_is_not_emptied(monkeypatch, capsys, tmp_path):
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work")
    assert "name an empty folder" in refused(monkeypatch, capsys, "--directory", tmp_path)
    assert "name an empty folder" in refused(monkeypatch, capsys, "--directory", kept)
    assert kept.read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kubeconfig", "somewhere"], "belong to --story"),
        (["--story", "--namespace", "slipway"], "--namespace needs --kubeconfig"),
        (["--story", "--kubeconfig", "/nowhere"], "there is no kubeconfig /nowhere"),
    ],
)
def test_options_that_do_not_fit_are_named(monkeypatch, capsys, tmp_path, arguments, words):
    place = ["--directory", tmp_path / "demo"]
    assert words in refused(monkeypatch, capsys, *arguments, *place)
    assert not (tmp_path / "demo").exists()
