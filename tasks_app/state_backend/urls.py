from django.urls import path

from tasks_app.state_backend.views import state

urlpatterns = [path("<uuid:workspace_id>/", state, name="state")]
