"""What the showcase shows: a plan, its logs and its steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tasks_app import blobs
from tasks_app.models import Blob, Task, TaskStep
from tasks_app.services import logs

PLAN_HASH = hashlib.sha256(b"plan.out").hexdigest()
SECRET = "not-for-anybodys-eyes"

PLAN_TEXT = """
Terraform used the selected providers to generate the following execution plan.
Resource actions are indicated with the following symbols:
  \x1b[32m+\x1b[0m create
  \x1b[33m~\x1b[0m update in-place
  \x1b[31m-\x1b[0m destroy

Terraform will perform the following actions:

\x1b[1m  # aws_route53_record.api\x1b[0m will be created
  \x1b[32m+\x1b[0m resource "aws_route53_record" "api" {
      \x1b[32m+\x1b[0m fqdn    = (known after apply)
      \x1b[32m+\x1b[0m name    = "api.example.com"
      \x1b[32m+\x1b[0m records = ["<script>document.title='broken'</script>"]
    }

\x1b[1mPlan:\x1b[0m 1 to add, 1 to change, 2 to destroy.
"""


def plan_json() -> dict[str, Any]:
    """A plan as ``terraform show -json`` prints it, with a sensitive value."""

    def row(address: str, actions: list[str], before: Any, after: Any, **more: Any) -> Any:
        return {
            "address": address,
            "change": {"actions": actions, "before": before, "after": after, **more},
        }

    return {
        "terraform_version": "1.11.4",
        "resource_changes": [
            row(
                "aws_route53_record.api",
                ["create"],
                None,
                {"name": "api.example.com", "ttl": 300, "type": "A"},
                after_unknown={"fqdn": True},
            ),
            row(
                "aws_lb_listener.https",
                ["update"],
                {"ssl_policy": "ELBSecurityPolicy-2016-08", "secret": SECRET},
                {"ssl_policy": "ELBSecurityPolicy-TLS13-1-2", "secret": SECRET + "2"},
                before_sensitive={"secret": True},
                after_sensitive={"secret": True},
            ),
            row(
                'module.network.aws_subnet.private["eu-central-1a"]',
                ["delete", "create"],
                {"cidr_block": "10.0.1.0/24", "tags": {"tier": "private"}},
                {"cidr_block": "10.0.16.0/20", "tags": {"tier": "private", "owner": "net"}},
            ),
            row("aws_security_group_rule.legacy_ssh", ["delete"], {"from_port": 22}, None),
        ],
        "output_changes": {
            "api_url": {
                "actions": ["create"],
                "before": None,
                "after": "https://api.example.com",
            }
        },
    }


def plan_contents() -> dict[str, Any]:
    """The blobs and counts of that plan, as `factories.plan_facts` takes them."""
    plan = Blob.Retention.PLAN
    return {
        "plan_hash": PLAN_HASH,
        "to_add": 2,
        "to_change": 1,
        "to_destroy": 2,
        "json": blobs.store([json.dumps(plan_json()).encode()], plan),
        "text": blobs.store([PLAN_TEXT.encode()], plan),
        "bundle": blobs.store([b"bundle"], plan),
        "bundle_bytes": 48_300,
    }


def write_log(task: Task, phase: str, lines: list[str]) -> int:
    """Append lines to a task's log as its agent does; returns the next offset."""
    lease = task.leases.order_by("-epoch").first()
    assert lease is not None
    return logs.append_log(
        task=task,
        phase=phase,
        lease_id=lease.pk,
        offset=logs.log_size(task, phase),
        data="".join(f"{line}\n" for line in lines).encode(),
    )


def add_steps(task: Task, phase: str, steps: Mapping[str, float]) -> None:
    """Write a phase's steps one after the other; durations in milliseconds."""
    at = 0.0
    for name, duration in steps.items():
        TaskStep.objects.create(
            task=task, phase=phase, name=name, started_ms=at, duration_ms=duration
        )
        at += duration


PLAN_STEPS = {
    "queue": 14,
    "placement": 21,
    "unpack": 38,
    "init": 2140,
    "plan": 5320,
    "show": 410,
    "hash": 12,
    "upload": 96,
}
WARMUP_STEPS = {"verify": 14, "spawn": 22, "gate": 690}
APPLY_STEPS = {
    "queue": 4,
    "placement": 12,
    "verify": 19,
    "permit": 9,
    "spawn": 31,
    "first action": 380,
}

PLAN_LOG = [
    "\x1b[1mInitializing the backend...\x1b[0m",
    "Initializing provider plugins...",
    "- Reusing previous version of hashicorp/aws from the dependency lock file",
    "\x1b[32mTerraform has been successfully initialized!\x1b[0m",
    "",
    *[f"aws_subnet.private[{n}]: Refreshing state... [id=subnet-0{n:04x}]" for n in range(24)],
    "<script>document.title = 'broken'</script> <b>markup stays text</b>",
    "\x1b[1mPlan:\x1b[0m 2 to add, 1 to change, 2 to destroy.",
]
WARMUP_LOG = ["Terraform was started and waits at its gate."]
APPLY_LOG = [
    "\x1b[1maws_security_group_rule.legacy_ssh: Destroying...\x1b[0m",
    "aws_security_group_rule.legacy_ssh: \x1b[32mDestruction complete after 1s\x1b[0m",
    'module.network.aws_subnet.private["eu-central-1a"]: Destroying... [id=subnet-00a1]',
    *[
        f'module.network.aws_subnet.private["eu-central-1a"]: Still destroying... [{n}0s elapsed]'
        for n in range(1, 9)
    ],
    'module.network.aws_subnet.private["eu-central-1a"]: \x1b[32mDestruction complete\x1b[0m',
    'module.network.aws_subnet.private["eu-central-1a"]: Creating...',
    "aws_lb_listener.https: Modifying... [id=arn:aws:elasticloadbalancing:listener/api]",
    "aws_lb_listener.https: \x1b[32mModifications complete after 2s\x1b[0m",
    "aws_route53_record.api: Creating...",
]
