from django.apps import AppConfig


class AgentsAppConfig(AppConfig):
    name = "agents_app"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents_app.health import check_agents
        from agents_app.services.holds import on_given_changed, refresh_pass
        from pods_app.controller import register_pass
        from tasks_app.signals import given_changed

        register_pass("agents", check_agents)
        register_pass("holds", refresh_pass)
        given_changed.connect(on_given_changed)
