"""What can go wrong with the cluster, by meaning instead of by number."""

from tasks_app.exceptions import SlipwayError


class ClusterError(SlipwayError):
    """The cluster did not do as asked; the sentence says what to do."""

    type = "cluster"
    title = "The cluster did not do as asked."
    status = 503


class Unreachable(ClusterError):
    """No answer, or none that says anything (5xx, 429): nothing is known, try again later.

    Args:
        retry_after: seconds the server asked to wait.
    """

    def __init__(self, detail: str = "", retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unauthorized(ClusterError):
    """401: the cluster does not know who asks."""


class Forbidden(ClusterError):
    """403: a right is missing, or an admission rule says no."""


class QuotaExceeded(ClusterError):
    """403 of the quota: there is no room in the namespace."""


class Rejected(ClusterError):
    """400 and 422: the object itself is not accepted. Repeating it is no use."""


class Absent(ClusterError):
    """404: there is no such object."""


class Changed(ClusterError):
    """409 of a precondition: the object is not what it was. Read it again."""


class NameTaken(ClusterError):
    """409 of a creation: an object of this name exists."""


class Expired(ClusterError):
    """410: the resourceVersion is too old. List again."""


class NotConfigured(ClusterError):
    """This process knows of no cluster."""
