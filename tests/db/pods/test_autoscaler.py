"""What a pool wants, read from the database, stored, and shown."""

import pytest

from pods_app.models import Pool
from pods_app.pools import create_pool, update_pool
from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tests.support.factories import make_admin, make_pool

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"min_pods": 11}, "max_pods", "keeps 11 pods and may have 10 at most"),
        ({"max_pods": 0}, "max_pods", "raise the maximum, or lower the minimum"),
        ({"slots_per_pod": 0}, "slots_per_pod", "at least 1 slot"),
    ],
)
def test_sizes_that_contradict_are_refused_with_the_field(fields, field, words):
    actor = Actor.person(make_admin())
    with pytest.raises(InvalidInput, match=words) as error:
        create_pool(actor=actor, name="new", **fields)
    assert error.value.field == field
    with pytest.raises(InvalidInput, match=words):
        update_pool(actor=actor, pool=make_pool(), **fields)
    assert not Pool.objects.filter(**fields).exists()
