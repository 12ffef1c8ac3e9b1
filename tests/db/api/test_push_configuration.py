"""`manage.py push_configuration`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from tasks_app.models import Project, Task
from tasks_app.services.configurations import read_configuration
from tests.support.factories import make_pod, make_pool, make_workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.tf").write_text("# nothing")
    return tmp_path


@pytest.fixture
def workspace():
    return make_workspace(name="web", configured=False)


def push(*args, **options):
    out = io.StringIO()
    call_command("push_configuration", *map(str, args), json=True, stdout=out, **options)
    return json.loads(out.getvalue())


def test_a_folder_is_stored_once_and_planned(workspace, folder):
    make_pod(make_pool())
    first = push("default/web", folder, message="one")
    assert (first["number"], first["files"], first["changed"]) == (1, 1, True)
    version = workspace.configurations.get()
    assert (version.source, version.message, version.digest) == ("command", "one", first["digest"])
    assert b"".join(read_configuration(version))[:2] == b"\x1f\x8b"

    again = push("web", folder, plan=True)
    assert (again["number"], again["changed"]) == (1, False)
    assert Task.objects.get(pk=again["task"]).configuration == version


def test_a_dry_run_changes_nothing_and_says_so_by_its_exit_code(workspace, folder):
    with pytest.raises(SystemExit) as exit:
        push("web", folder, dry_run=True)
    assert exit.value.code == 3
    assert not workspace.configurations.exists()
    push("web", folder)
    assert push("web", folder, dry_run=True)["changed"] is False


def test_what_cannot_be_pushed_is_named(workspace, folder):
    with pytest.raises(CommandError, match="no workspace 'other'"):
        push("other", folder)
    with pytest.raises(CommandError, match="no folder"):
        push("web", folder / "missing")
    (folder / "main.tf").unlink()
    with pytest.raises(CommandError, match="nothing to pack"):
        push("web", folder)
    make_workspace(name="web", project=Project.objects.create(name="second"))
    with pytest.raises(CommandError, match="default/web, second/web"):
        push("web", folder)
