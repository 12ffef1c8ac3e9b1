#!/usr/bin/env python
import os
import sys


def main() -> None:
    # The agent has no database, no secret key and no encryption key, hence its own settings.
    agent = sys.argv[1:2] == ["run_agent"]
    os.environ.setdefault(
        "DJANGO_SETTINGS_MODULE", "config.settings.agent" if agent else "config.settings.server"
    )
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
