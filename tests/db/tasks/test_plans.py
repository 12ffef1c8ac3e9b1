import json

import pytest

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import NotFound
from tasks_app.models import Blob, Plan
from tasks_app.services.plans import MASK, UNKNOWN, changes, plan_text
from tasks_app.services.variables import set_variable
from tests.support.factories import make_admin, make_task, make_waiting_task, make_workspace

pytestmark = pytest.mark.django_db
CANARY = "canary-4711-secret"


def change(actions, before, after, **more):
    return {"actions": actions, "before": before, "after": after, **more}


@pytest.fixture
def task():
    workspace = make_workspace()
    set_variable(
        actor=Actor.person(make_admin()),
        key="password",
        value=CANARY,
        sensitive=True,
        workspace=workspace,
    )
    return make_waiting_task(workspace)


def show(task, **document):
    blob = blobs.store([json.dumps(document).encode()], Blob.Retention.PLAN)
    Plan.objects.filter(task=task).update(json=blob)
    return changes(task)


def resource(task, **about):
    (row,) = show(task, resource_changes=[{"address": "a.b", "change": change(**about)}])[
        "resources"
    ]
    return {item["name"]: (item["before"], item["after"]) for item in row["attributes"]}


def test_what_terraform_calls_sensitive_is_masked(task):
    seen = resource(
        task,
        actions=["update"],
        before={
            "name": "x",
            "secret": "old",
            "nested": {"key": "k1", "open": 1},
            "list": ["p", "q"],
        },
        after={
            "name": "x",
            "secret": "new",
            "nested": {"key": "k2", "open": 2},
            "list": ["p", "r"],
        },
        before_sensitive={"secret": True, "nested": {"key": True}, "list": [False, True]},
        after_sensitive={"secret": True, "nested": {"key": True}, "list": [False, True]},
    )
    assert seen == {
        "secret": (MASK, MASK),
        "nested": ({"key": MASK, "open": 1}, {"key": MASK, "open": 2}),
        "list": (["p", MASK], ["p", MASK]),
    }


def test_what_is_known_after_apply_says_so_in_lists_too(task):
    seen = resource(
        task,
        actions=["create"],
        before=None,
        after={"name": "x", "ports": [80]},
        after_unknown={"id": True, "ports": [False, True]},
    )
    assert seen["id"] == (None, UNKNOWN)
    assert seen["ports"] == (None, [80, UNKNOWN])


def test_the_tasks_sensitive_values_are_hidden_wherever_they_are(task):
    shown = show(
        task,
        resource_changes=[
            {
                "address": f'a.b["{CANARY}"]',
                "change": change(
                    ["create"], None, {"url": f"https://ada:{CANARY}@host", CANARY: [CANARY]}
                ),
            }
        ],
        output_changes={"out": change(["create"], None, {"deep": [CANARY]})},
        resource_drift=[{"address": "a.c", "change": change(["update"], {"x": 1}, {"x": CANARY})}],
    )
    assert CANARY not in json.dumps(shown)
    assert "https://ada:[redacted]@host" in json.dumps(shown)


def test_an_output_that_is_sensitive_as_a_whole(task):
    shown = show(
        task,
        output_changes={
            "a": change(["update"], "x", "y", before_sensitive=True, after_sensitive=True),
            "b": change(["no-op"], "x", "x"),
        },
    )
    (output,) = shown["outputs"]
    assert output["attributes"] == [{"name": "value", "before": MASK, "after": MASK}]


def test_what_does_not_change_is_not_shown(task):
    rows = [
        {"address": "a.b", "change": change(actions, {}, {})} for actions in (["no-op"], ["read"])
    ]
    rows.append({"address": "a.i", "change": change(["no-op"], {}, {}, importing={"id": "x"})})
    assert [row["address"] for row in show(task, resource_changes=rows)["resources"]] == ["a.i"]


def test_a_plan_that_is_not_there(task):
    with pytest.raises(NotFound, match="no plan"):
        plan_text(make_task())
    assert plan_text(task) == ""
    with pytest.raises(NotFound, match="purged"):
        changes(task)
