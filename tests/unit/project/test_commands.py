"""Every management command can be used by scripts, and looked at before it changes anything."""

from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import load_command_class
from django.core.management.base import CommandParser

#: Programs that run until they are stopped; they change what their work changes.
PROGRAMS = {"run_agent", "run_controller"}
#: Used by the launcher alone, for a new installation; its output is JSON.
SEEDS = {"seed_installation"}
WANTED = {
    "begin_incarnation",
    "check_agents",
    "cleanup_work_dirs",
    "create_pool_token",
    "freeze",
    "push_configuration",
    "purge",
    "reconcile_pods",
    "reencrypt",
    "run_agent",
    "run_controller",
    "unfreeze",
}


def commands():
    """Names of our commands with the app that has each."""
    found = {}
    for label in ("tasks_app", "pods_app", "agents_app", "config"):
        config = apps.get_app_config(label)
        for module in Path(config.path, "management", "commands").glob("[a-z]*.py"):
            found[module.stem] = config.name
    return found


def options(name):
    parser: CommandParser = load_command_class(commands()[name], name).create_parser("", name)
    return set(parser._option_string_actions)


def test_the_commands_of_the_design_are_there():
    assert commands().keys() >= WANTED


@pytest.mark.parametrize("name", sorted(WANTED - PROGRAMS))
def test_commands_have_a_dry_run_and_json(name):
    assert {"--dry-run", "--json"} <= options(name)


def test_no_command_is_forgotten():
    assert commands().keys() - WANTED == SEEDS


@pytest.mark.parametrize("name", sorted(WANTED | SEEDS))
def test_commands_say_what_they_do(name):
    assert load_command_class(commands()[name], name).help.strip()
