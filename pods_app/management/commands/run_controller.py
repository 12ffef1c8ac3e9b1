import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from pods_app import controller
from pods_app.models import Pool
from pods_app.reconcile import stop_pods


class Command(BaseCommand):
    help = (
        "Watch pods and agents and place waiting tasks. One is active per installation; "
        "others stand by and take over within seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--stop-pods",
            action="store_true",
            help="At the end also end the local pods; by default they go on and are adopted.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        controller.run(stop)
        if options["stop_pods"]:
            for pool in Pool.objects.all():
                stop_pods(pool)
