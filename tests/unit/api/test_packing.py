"""Folders as archives: what is packed, and that it is always the same bytes."""

import tarfile

import pytest

from tasks_app.exceptions import InvalidInput
from tasks_app.packing import Ignore, pack


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def packed(folder):
    archive, names = pack(folder)
    with archive, tarfile.open(fileobj=archive, mode="r:gz") as tar:
        assert tar.getnames() == names
        return names


def test_working_files_and_states_are_left_out(tmp_path):
    for name in (
        "main.tf",
        "modules/a/main.tf",
        ".terraform/providers/x",
        "modules/a/.terraform/y",
        ".git/config",
        "terraform.tfstate",
        "terraform.tfstate.backup",
        ".terraform.lock.hcl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert packed(tmp_path) == [".terraform.lock.hcl", "main.tf", "modules/a/main.tf"]


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "b.tf").write_text("b")
        (folder / "a.sh").write_text("a")
        (folder / "a.sh").chmod(0o755)
    (two / "b.tf").touch()
    contents = []
    for folder in (one, two):
        archive, _ = pack(folder)
        with archive:
            contents.append(archive.read())
    assert contents[0] == contents[1]


def test_a_link_inside_becomes_its_file_and_one_that_leaves_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "main.tf").write_text("x")
    (folder / "again.tf").symlink_to("main.tf")
    assert packed(folder) == ["again.tf", "main.tf"]
    (tmp_path / "secret").write_text("x")
    (folder / "out.tf").symlink_to("../secret")
    with pytest.raises(InvalidInput, match=r"out\.tf is a link that leaves"):
        pack(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="nothing to pack"):
        pack(tmp_path)


@pytest.mark.parametrize(
    ("rule", "path", "folder", "left_out"),
    [
        ("*.md", "a/README.md", False, True),
        ("*.md", "a/README.mdx", False, False),
        ("/docs", "docs", True, True),
        ("docs/", "a/docs", True, True),
        ("docs/", "a/docs", False, False),
        ("a/b", "a/b", False, True),
        ("a/b", "x/a/b", False, False),
        ("**/x", "a/b/x", False, True),
        ("a/**", "a/b/c", False, True),
        ("?.tf", "ab.tf", False, False),
        ("# main.tf", "main.tf", False, False),
    ],
)
def test_rules_mean_what_they_mean_to_git(rule, path, folder, left_out):
    assert Ignore([rule])(path, folder=folder) is left_out


def test_the_last_rule_decides():
    ignored = Ignore(["*.tf", "!keep.tf"])
    assert ignored("other.tf", folder=False)
    assert not ignored("a/keep.tf", folder=False)
