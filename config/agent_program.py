from django.apps import AppConfig


class AgentProgramConfig(AppConfig):
    """`agents_app` as the agent program sees it: its commands, without models or a database."""

    name = "agents_app"

    def import_models(self) -> None:
        """Load none: they need pods_app, tasks_app and the user model."""
        assert self.apps is not None
        self.models = self.apps.all_models[self.label]
