"""What commands about one pool share."""

from django.core.management.base import CommandError

from pods_app.models import Pool

EXIT_DRY_RUN_FOUND_CHANGES = 3


def pool_named(name: str) -> Pool:
    """Return the pool.

    Raises:
        CommandError: there is none; the message names those that there are.
    """
    pool = Pool.objects.filter(name=name).first()
    if pool is None:
        names = ", ".join(Pool.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no pool {name!r}; there are: {names}.")
    return pool
