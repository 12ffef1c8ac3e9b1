"""What an agent tells of itself every few seconds, and what it hears."""

from __future__ import annotations

from django.conf import settings

from agents_app import tokens
from agents_app.schema import HeartbeatReply, HeartbeatRequest
from agents_app.tokens import Caller
from pods_app import registration
from pods_app.incarnation import doubt_if_unknown
from pods_app.work_directories import Reported, report_directories


def heartbeat(caller: Caller, message: HeartbeatRequest) -> HeartbeatReply:
    """Store a heartbeat and answer with the server's wishes for the whole agent.

    While the database is in doubt nothing is repaired or deleted after its say: what it does
    not know may be newer than itself.
    """
    pod = caller.pod
    registration.heartbeat(
        pod,
        engines=[engine.model_dump() for engine in message.engines],
        providers=message.providers,
        disk_total_bytes=message.disk_total_bytes,
        disk_free_bytes=message.disk_free_bytes,
        draining=message.draining,
    )
    named = {report.lease_id for report in message.leases}
    newest = {message.newest_lease} if message.newest_lease else set()
    heard = named | newest
    permitted = {report.lease_id for report in message.leases if report.permitted}
    permitted |= {message.newest_permit} if message.newest_permit else set()
    in_doubt = caller.doubt or (
        heard and doubt_if_unknown(pod, message.incarnation, heard, permitted)
    )
    delete = []
    if not in_doubt:
        registration.report_leases(pod, named)
        delete = report_directories(
            pod,
            str(settings.SLIPWAY.work_directory),
            [Reported(**report.model_dump()) for report in message.directories],
            message.deleted_directories,
        )
    return HeartbeatReply(
        draining=pod.draining or message.draining,
        delete_directories=delete,
        agent_token=tokens.rotate(caller),
    )
