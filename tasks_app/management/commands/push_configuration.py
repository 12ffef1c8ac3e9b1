import hashlib
import json
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError
from tasks_app.models import ConfigurationVersion, Workspace
from tasks_app.packing import pack
from tasks_app.services.configurations import store_configuration
from tasks_app.services.tasks import create_task
from tasks_app.states import TaskType

EXIT_DRY_RUN_FOUND_CHANGES = 3
COMMAND = Actor.system("command")


class Command(BaseCommand):
    help = (
        "Store a folder as the next configuration version of a workspace, and plan it with "
        "--plan. A folder that is the newest version already is not stored again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", help="Its name, or project/name")
        parser.add_argument("directory", type=Path, help="The folder with the *.tf files")
        parser.add_argument("--message", default="", help="What changed")
        parser.add_argument("--plan", action="store_true", help="Queue a plan and apply of it.")
        parser.add_argument("--dry-run", action="store_true", help="Only compare.")
        parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._push(**options)
        except SlipwayError as refusal:
            raise CommandError(refusal.detail) from None

    def _push(self, **options: Any) -> None:
        workspace = _workspace(options["workspace"])
        directory: Path = options["directory"]
        if not directory.is_dir():
            raise CommandError(f"There is no folder {directory}.")
        archive, names = pack(directory)
        with archive:
            digest = _digest(archive)
            newest = workspace.configurations.order_by("-number").first()
            changed = newest is None or newest.digest != digest
            result: dict[str, Any] = {
                "workspace": str(workspace.pk),
                "digest": digest,
                "files": len(names),
                "changed": changed,
            }
            if options["dry_run"]:
                self._say(options, result, f"{len(names)} file(s), {_verdict(changed)}")
                if changed:
                    raise SystemExit(EXIT_DRY_RUN_FOUND_CHANGES)
                return
            version = newest if not changed else _store(workspace, archive, options["message"])
        assert version is not None  # found or stored
        result |= {"configuration": str(version.pk), "number": version.number}
        text = f"Configuration {version.number} of {workspace}: {_verdict(changed)}"
        if options["plan"]:
            task = create_task(
                actor=COMMAND,
                workspace=workspace,
                type=TaskType.PLAN_AND_APPLY,
                configuration=version,
                message=options["message"],
            )
            result["task"] = str(task.pk)
            text += f"; planned as #{task.number}"
        self._say(options, result, text)

    def _say(self, options: dict[str, Any], result: dict[str, Any], text: str) -> None:
        self.stdout.write(json.dumps(result) if options["json"] else text)


def _digest(archive: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := archive.read(1 << 20):
        digest.update(piece)
    archive.seek(0)
    return digest.hexdigest()


def _verdict(changed: bool) -> str:
    return "new" if changed else "as the newest version"


def _store(workspace: Workspace, archive: IO[bytes], message: str) -> ConfigurationVersion:
    return store_configuration(
        actor=COMMAND,
        workspace=workspace,
        archive=archive,
        source=ConfigurationVersion.Source.COMMAND,
        message=message,
    )


def _workspace(text: str) -> Workspace:
    project, _, name = text.rpartition("/")
    rows = Workspace.objects.select_related("project").filter(name=name)
    found = list(rows.filter(project__name=project) if project else rows)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(f"{row.project}/{row.name}" for row in found))
        raise CommandError(f"Several workspaces have this name; name one of {names}.")
    raise CommandError(f"There is no workspace {text!r}; create it in the admin or the API.")
