import io
import tarfile
from dataclasses import replace

import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import ArchiveRefused, NotFound, NotPermitted, TooLarge
from tasks_app.models import Blob, ConfigurationVersion, Event, Project
from tasks_app.services.configurations import read_configuration, store_configuration
from tests.support.factories import make_admin, make_user, make_workspace
from tests.support.racing import race

pytestmark = pytest.mark.django_db


def packed(*names, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO())
    buffer.seek(0)
    return buffer


def store(workspace, archive, actor=None):
    return store_configuration(
        actor=actor or Actor.person(make_admin()),
        workspace=workspace,
        archive=archive,
        source=ConfigurationVersion.Source.UPLOAD,
        message="first",
    )


@pytest.fixture
def workspace():
    return make_workspace(configured=False)


def test_versions_are_numbered_and_come_back_byte_by_byte(workspace):
    archive = packed("main.tf")
    first, second = store(workspace, archive), store(workspace, archive)
    assert (first.number, second.number) == (1, 2)
    assert b"".join(read_configuration(first)) == archive.getvalue()
    assert first.digest == second.digest
    event = Event.objects.filter(kind="configuration.stored").latest("id")
    assert event.data == {"number": 2, "bytes": len(archive.getvalue()), "files": 1}


@pytest.mark.parametrize(
    "archive",
    [
        packed("../main.tf"),
        packed("/main.tf"),
        packed("main.tf", kind=tarfile.SYMTYPE),
        packed("main.tf", kind=tarfile.LNKTYPE),
        packed("main.tf", kind=tarfile.CHRTYPE),
        packed("main.tf", kind=tarfile.FIFOTYPE),
        packed("main.tf", "main.tf"),
        packed("main.tf", "MAIN.tf"),
        packed("main.tf", "main.tf/x"),
        packed("a/.terraform/x"),
        packed(),
        io.BytesIO(b"no archive"),
        io.BytesIO(packed("main.tf").getvalue()[:-9]),
        io.BytesIO(),
    ],
)
def test_what_is_refused_names_the_entry_and_stores_nothing(workspace, archive):
    with pytest.raises(ArchiveRefused) as refusal:
        store(workspace, archive)
    assert refusal.value.field == "archive"
    assert not Blob.objects.exists()
    assert not ConfigurationVersion.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        ({"archive_bytes_max": 50}, TooLarge),
        ({"archive_files_max": 2}, ArchiveRefused),
        ({"archive_unpacked_bytes_max": 0}, ArchiveRefused),
    ],
)
def test_limits(workspace, settings, limits, refusal):
    settings.SLIPWAY = replace(settings.SLIPWAY, **limits)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("a", "b", "c"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(name.encode() * 3))
    with pytest.raises(refusal):
        store(workspace, buffer)
    assert not Blob.objects.exists()


def test_who_may_upload(workspace):
    store(workspace, packed("main.tf"), Actor.person(make_user("planner")))
    with pytest.raises(NotPermitted):
        store(workspace, packed("main.tf"), Actor.person(make_user("viewer")))
    elsewhere = Project.objects.create(name="elsewhere")
    with pytest.raises(NotFound):
        store(workspace, packed("main.tf"), Actor.person(make_user("manager", elsewhere)))


@pytest.mark.django_db(transaction=True)
def test_uploads_at_once_get_different_numbers():
    workspace = make_workspace(configured=False)
    admin = Actor.person(make_admin())
    results = race([lambda: store(workspace, packed("main.tf"), admin)] * 5)
    assert sorted(version.number for version in results) == [1, 2, 3, 4, 5]
