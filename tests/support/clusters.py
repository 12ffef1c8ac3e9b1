"""What a pod of the cluster is made from, with what the test does not care about."""

from __future__ import annotations

from typing import Any

from pods_app.cluster.builder import Surroundings


def around(**changes: Any) -> Surroundings:
    return Surroundings(
        **{
            "owner": "owner-1",
            "namespace": "slipway",
            "url": "https://slipway.example",
            "image": "slipway.example/agent:1",
            "service_account": "slipway-agent",
            "work_directory": "/var/lib/slipway/work",
            **changes,
        }
    )
