import pytest

from tasks_app.models import SingleFlight
from tasks_app.models.base import ClockTimestamp
from tasks_app.single_flight import acquire, new_holder, release, single_flight
from tests.support.racing import race

pytestmark = pytest.mark.django_db


def test_one_holder_until_it_expires_or_gives_back():
    assert acquire("job", "a", 60)
    assert not acquire("job", "b", 60)
    since = SingleFlight.objects.get().acquired_at
    assert acquire("job", "a", 60)
    assert SingleFlight.objects.get().acquired_at == since
    release("job", "b")
    assert not acquire("job", "b", 60)
    SingleFlight.objects.update(expires_at=ClockTimestamp())
    assert acquire("job", "b", 60)
    assert SingleFlight.objects.get().acquired_at > since
    release("job", "b")
    assert acquire("job", "c", 60)


def test_the_body_knows_whether_it_may_and_gives_back_when_it_fails():
    with pytest.raises(ZeroDivisionError), single_flight("job", 60) as mine:
        assert mine
        with single_flight("job", 60) as other:
            assert not other
        assert SingleFlight.objects.exists()
        1 / 0  # noqa: B018
    assert not SingleFlight.objects.exists()


def test_holders_are_unique():
    assert len({new_holder() for _ in range(100)}) == 100


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_gets_it():
    results = race([lambda n=n: acquire("job", f"holder {n}", 60) for n in range(8)])
    assert results.count(True) == 1
