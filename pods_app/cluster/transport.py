"""One request to the API: time-outs, careful repetition, and answers by meaning.

Objects are plain dictionaries: what the API says is neither lost nor validated a second time.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from kubernetes.client import ApiClient, ApiException

from pods_app.cluster.errors import (
    Absent,
    Changed,
    ClusterError,
    Expired,
    Forbidden,
    QuotaExceeded,
    Rejected,
    Unauthorized,
    Unreachable,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 3.0, 8.0
_TRIES = 3
_PAUSE, _PAUSE_MAX = 0.25, 4.0


class Transport:
    """Speaks to one API server. Safe for threads.

    Args:
        api: a configured client whose urllib3 repeats nothing by itself.
        sleep: for tests.
    """

    def __init__(self, api: ApiClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api, self._sleep = api, sleep

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Return the answer. What got none is repeated: it must be safe to repeat.

        Raises:
            ClusterError: by meaning; Unreachable when nothing is known.
        """
        pause = _PAUSE
        for attempt in range(1, _TRIES + 1):
            wait = pause * random.uniform(0.5, 1.5)
            try:
                response = self.open(method, path, query, body, content_type)
                answer: dict[str, Any] = json.loads(_whole(response))
                return answer
            except Unreachable as error:
                wait = max(wait, error.retry_after)
                if attempt == _TRIES or wait > _PAUSE_MAX:
                    raise
                log.info("%s Trying again.", error.detail)
            self._sleep(wait)
            pause = min(pause * 2, _PAUSE_MAX)
        raise AssertionError("the loop returns or raises")

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        read_seconds: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Return a good answer whose body is still to be read.

        Args:
            read_seconds: the longest silence; by default READ_SECONDS.

        Raises:
            ClusterError
        """
        headers = {"Accept": "application/json", "Content-Type": content_type}
        request = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        limits = (CONNECT_SECONDS, READ_SECONDS if read_seconds is None else read_seconds)
        try:
            answer = self._api.call_api(*request, _request_timeout=limits).response
        except ApiException as error:  # TLS
            raise Unreachable(f"The cluster's API cannot be trusted: {error.reason}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise no_answer(error) from None
        if answer.status >= 300:
            raise meaning(answer.status, _parsed(_whole(answer)), answer.headers)
        found: urllib3.BaseHTTPResponse = answer
        return found


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise no_answer(error) from None
    finally:
        response.release_conn()


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"message": text.decode(errors="replace")[:200]}


def no_answer(error: Exception) -> Unreachable:
    """Return what a broken or missing connection means."""
    return Unreachable(f"The cluster's API gives no answer: {type(error).__name__}: {error}"[:400])


def meaning(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> ClusterError:
    """Return what an answer of the API that is not a success means.

    Args:
        body: a Status object of the API, or what comes near to one.
    """
    message = str(body.get("message") or "no reason is given").strip()
    if status == 401:
        return Unauthorized(
            "The cluster does not accept Slipway's credentials; check SLIPWAY_KUBECONFIG or the "
            f"service account: {message}"
        )
    if status == 403 and "exceeded quota" in message:
        return QuotaExceeded(f"The namespace's quota is used up: {message}")
    if status == 403:
        return Forbidden(
            "The cluster refuses it; grant the right as the shipped Role does, or see its "
            f"admission rules: {message}"
        )
    if status == 404:
        return Absent(message)
    if status == 409:
        return Changed(f"The object is not what it was: {message}")
    if status == 410:
        return Expired(message)
    if status == 429 or status >= 500:
        text = (headers or {}).get("Retry-After", "")
        wait = float(text) if text.isdigit() else 0.0
        return Unreachable(f"The cluster cannot answer now ({status}): {message}", wait)
    return Rejected(f"The cluster does not accept the pod: {message}")
