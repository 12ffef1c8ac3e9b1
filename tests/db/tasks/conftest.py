"""A workspace, and the Terraform of somebody who manages it."""

import pytest

from tests.support.factories import make_user, make_workspace
from tests.support.state import StateClient, token_of


@pytest.fixture
def workspace():
    return make_workspace()


@pytest.fixture
def ada(workspace):
    return StateClient(workspace.pk, token_of(make_user("manager")))
