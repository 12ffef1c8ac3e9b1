"""A few gauges in Prometheus' format, derived from the database when asked."""

from collections.abc import Iterator

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pods_app.models import ManagedPod, PodSlot
from tasks_app.models import Task
from tasks_app.states import FINAL


class _DatabaseCollector(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        tasks = GaugeMetricFamily("slipway_tasks", "Unfinished tasks", labels=["status"])
        counted = (
            Task.objects.exclude(status__in=FINAL)
            .values_list("status")
            .annotate(number=Count("id"))
        )
        for status, number in counted.order_by():
            tasks.add_metric([status], number)
        yield tasks
        slots = GaugeMetricFamily("slipway_slots", "Slots by status", labels=["pool", "status"])
        for pool, status, number in (
            PodSlot.objects.values_list("pod__pool__name", "status")
            .annotate(number=Count("id"))
            .order_by()
        ):
            slots.add_metric([pool, status], number)
        yield slots
        pods = GaugeMetricFamily("slipway_pods", "Pods by phase", labels=["pool", "phase"])
        for pool, phase, number in (
            ManagedPod.objects.values_list("pool__name", "phase")
            .annotate(number=Count("id"))
            .order_by()
        ):
            pods.add_metric([pool, phase], number)
        yield pods


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape. Numbers only; keep the path inside your network."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_DatabaseCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
