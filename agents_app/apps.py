from django.apps import AppConfig


class AgentsAppConfig(AppConfig):
    name = "agents_app"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents_app.health import check_agents
        from agents_app.services.holds import refresh_pass
        from pods_app.controller import register_pass

        register_pass("agents", check_agents)
        register_pass("holds", refresh_pass)
