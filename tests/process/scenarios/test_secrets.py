"""Canary secrets, searched for wherever something is stored or said."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
from django.apps import apps
from django.db import connection

from pods_app.services import set_pool_credential
from tasks_app.actors import Actor
from tasks_app.models import Task
from tests.support.configurations import Counter, Gate
from tests.support.platform import Platform, default_pool
from tests.support.programs import processes_below
from tests.support.sites import Site, log

#: Values with characters that URLs, JSON and shells escape.
CANARIES = {
    "sensitive variable": 'canary-variable-"7f&3<=/\\ä',
    "environment variable": "canary-environment-9 1%+b",
    "credential": "canary-credential-4/c=d8",
    "provider output": 'canary-output-6e?2"x',
}


def _forms(secret: str) -> set[bytes]:
    """A secret as it is, and as it is written in Base64, URLs and JSON."""
    escaped = json.dumps(secret)[1:-1]
    texts = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        escaped,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        base64.b64encode(secret.encode()).decode(),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    }
    return {text.encode() for text in texts}


FORMS = {(name, form) for name, secret in CANARIES.items() for form in _forms(secret)}
#: Not a secret: the search must find it, or it searches nothing.
CONTROL = "canary-in-plain-sight"


def _leaks(where: str, content: bytes) -> Iterator[str]:
    for name, form in sorted({*FORMS, ("control", CONTROL.encode())}):
        if form in content:
            yield f"{name} as {form!r} in {where}"


def _configuration(counter: Counter, gate: Gate) -> dict[str, str]:
    """Say every secret in every way that a careless configuration finds."""
    secret = CANARIES["provider output"]
    return {
        "main.tf": f"""
variable "secret" {{
  type      = string
  sensitive = true
}}

resource "terraform_data" "careless" {{
  input = var.secret
  provisioner "local-exec" {{
    command = <<-EOT
      printf '%s\\n' "$SECRET_RAW" "$CANARY_ENVIRONMENT"
      printf '%s' "$SECRET_RAW" | base64 -w0; echo
      printf '%s' "$SECRET_RAW" | cut -c1-12 | tr -d '\\n'; sleep 0.3
      printf '%s' "$SECRET_RAW" | cut -c13-; echo
      printf '%s\\n' "$SECRET_JSON" "$SECRET_URL"
      echo said >> {counter.path}; until [ -e {gate.path} ]; do sleep 0.05; done
    EOT
    environment = {{
      SECRET_RAW  = nonsensitive(var.secret)
      SECRET_JSON = nonsensitive(jsonencode(var.secret))
      SECRET_URL  = nonsensitive(urlencode(var.secret))
    }}
  }}
}}

output "given" {{
  value     = {json.dumps(secret)}
  sensitive = true
}}

output "secret" {{
  value     = terraform_data.careless.output
  sensitive = true
}}
"""
    }


def test_no_secret_is_found_in_any_table_answer_log_or_file(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    set_pool_credential(
        actor=Actor.system("test"),
        pool=default_pool(),
        kind="https_token",
        host="git.example.org",
        secret=CANARIES["credential"],
    )
    agent = platform.start_agent()
    site = platform.site(_configuration(counter, gate), description=CONTROL)
    site.set("secret", CANARIES["sensitive variable"], sensitive=True)
    site.set(
        "CANARY_ENVIRONMENT",
        CANARIES["environment variable"],
        category="environment",
        sensitive=True,
    )
    task = site.plan()
    assert platform.terraforms(), "it is held"
    leaks = list(_in_arguments(platform))
    leaks += _in_files(agent.directory, "the agent's directory")
    site.confirmed(task)
    counter.wait()
    leaks += _in_arguments(platform)
    leaks += _in_files(agent.directory, "the agent's directory")
    gate.open()
    site.wait(task, "applied")
    assert "(local-exec):" in log(task, "apply"), "the secrets were really said"

    leaks += _in_tables()
    leaks += _in_answers(platform, site, task)
    leaks += _in_files(agent.directory, "the agent's directory")
    leaks += _in_files(platform.directory / "logs", "the logs")
    for phase in ("plan", "warmup", "apply"):
        leaks += _leaks(f"the {phase} log", log(task, phase).encode())
    found = {leak.rpartition(" in ")[2] for leak in leaks if leak.startswith("control ")}
    assert {"tasks_app_workspace.description", "workspaces/"} <= found
    assert [leak for leak in leaks if not leak.startswith("control ")] == []


def _in_tables() -> Iterator[str]:
    """Search every column of every row as it is stored."""
    for model in apps.get_models():
        table = connection.ops.quote_name(model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table}")
            columns = [column.name for column in cursor.description or ()]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    content = bytes(value) if isinstance(value, memoryview) else value
                    if not isinstance(content, bytes):
                        content = str(content).encode()
                    yield from _leaks(f"{model._meta.db_table}.{column}", content)


def _in_answers(platform: Platform, site: Site, task: Task) -> Iterator[str]:
    """Search what the API says of the workspace; the state itself has a right of its own."""
    workspace, pk = f"workspaces/{site.workspace.pk}", f"tasks/{task.pk}"
    paths = [
        *("workspaces/", f"{workspace}/", f"{workspace}/variables/"),
        *(f"{workspace}/configurations/", f"{workspace}/state-versions/"),
        *("tasks/", f"{pk}/", f"{pk}/plan/", f"{pk}/events/"),
        *(f"{pk}/log/?phase=plan&offset=0", f"{pk}/log/?phase=apply&offset=0"),
        *("pools/", "pods/", "slots/", "agents/"),
    ]
    for path in paths:
        answer = platform.request("GET", path)
        assert answer.is_success, f"{path}: {answer.text}"
        yield from _leaks(path, answer.content)


def _in_files(directory: Path, where: str) -> Iterator[str]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield from _leaks(f"{where}: {path.name}", path.read_bytes())


def _in_arguments(platform: Platform) -> Iterator[str]:
    """Search the command lines that every user of the machine can read."""
    for process in [*processes_below(platform.directory), *_programs(platform)]:
        try:
            arguments = "\0".join(process.cmdline())
        except psutil.Error:
            continue
        yield from _leaks(f"the arguments of {process.pid}", arguments.encode())


def _programs(platform: Platform) -> list[psutil.Process]:
    return [psutil.Process(program.pid) for program in platform.programs if program.alive]
