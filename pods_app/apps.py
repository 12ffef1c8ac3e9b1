from django.apps import AppConfig


class PodsAppConfig(AppConfig):
    name = "pods_app"
    verbose_name = "Pods"

    def ready(self) -> None:
        from pods_app import receivers
        from pods_app.api import added_fields
        from pods_app.autoscaler.decisions import old_decisions
        from pods_app.freeze.notices.passes import old_notices
        from pods_app.leases import lease_ended
        from pods_app.state_access import LeaseStateAccess
        from tasks_app import signals
        from tasks_app.ports import register_state_access
        from tasks_app.services import retention

        register_state_access(LeaseStateAccess())
        signals.task_created.connect(receivers.on_task_created)
        signals.task_transitioned.connect(receivers.on_task_transitioned)
        signals.cancel_requested.connect(receivers.on_cancel_requested)
        signals.state_unlocked_by_force.connect(receivers.on_state_unlocked_by_force)
        signals.warmup_wanted.connect(receivers.on_warmup_wanted)
        lease_ended.connect(receivers.on_lease_ended)
        added_fields.register()
        retention.add_class("scaling_decisions", old_decisions)
        retention.add_class("freeze_notices", old_notices)
