"""One line per event. No Django: the agent uses it too."""

import logging
import time


class LineFormatter(logging.Formatter):
    """UTC times, and tracebacks folded into the event's line, so that lines are events."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as a single line."""
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")
