from django.db import models


class SingleFlight(models.Model):
    """Who may run a named job now; expiry in database time."""

    name = models.CharField(max_length=60, primary_key=True)
    holder = models.CharField(max_length=100)
    expires_at = models.DateTimeField()
    acquired_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
