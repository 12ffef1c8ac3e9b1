"""Refusals that only agents meet."""

from tasks_app.exceptions import Conflict


class LogIncomplete(Conflict):
    """A phase was reported as over before its whole log is here; ``extra['next_offset']``."""

    type = "log-incomplete"
    title = "The log has a gap; send the missing bytes, then report the end again."


class ArtifactsMissing(Conflict):
    """A plan was reported before its contents are here; ``extra['missing']`` names them."""

    type = "artifacts-missing"
    title = "Contents of the plan are missing; store them, then report the end again."
