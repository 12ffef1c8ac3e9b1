import pytest

from tests.support.factories import make_admin, make_user
from tests.support.rest import Person


@pytest.fixture
def admin(db):
    """A superuser at the API."""
    return Person(make_admin())


@pytest.fixture
def viewer(db):
    """Somebody who may see every project, and nothing else."""
    return Person(make_user("viewer"))


@pytest.fixture
def stranger(db):
    """Somebody without any role."""
    return Person(make_user())
