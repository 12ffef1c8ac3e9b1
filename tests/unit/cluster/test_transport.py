"""What the client makes of answers, and what it asks again."""

import json

import pytest
import urllib3

from pods_app.cluster import errors
from pods_app.cluster.transport import Transport, meaning


class FakeApi:
    """An ApiClient that answers from a list: a status, (status, headers) or an exception."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    def param_serialize(self, method, path, **more):
        return method, path, more

    def call_api(self, method, path, more, _request_timeout):
        assert _request_timeout[0] > 0 and _request_timeout[1] > 0
        self.requests.append((method, path))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        body = {"kind": "Status", "message": f"said {status}"}

        class Answer:
            response = urllib3.HTTPResponse(
                json.dumps(body).encode(), status=status, headers=headers, preload_content=False
            )

        return Answer()


def ask(*answers):
    api, slept = FakeApi(*answers), []
    try:
        return Transport(api, slept.append).ask("GET", "/pods"), api, slept
    except errors.ClusterError as error:
        return error, api, slept


SILENCE = urllib3.exceptions.ReadTimeoutError(None, "/pods", "silent")


def test_an_answer_is_a_plain_dictionary():
    assert ask(200)[0] == {"kind": "Status", "message": "said 200"}


@pytest.mark.parametrize("nothing", [500, 503, 504, SILENCE, ConnectionResetError()])
def test_what_gave_no_answer_is_asked_again_later_and_later(nothing):
    answer, api, slept = ask(nothing, nothing, 200)
    assert answer["message"] == "said 200"
    assert len(api.requests) == 3
    assert 0.1 < slept[0] < 0.4 < slept[1] * 2


def test_it_gives_up_and_says_that_nothing_is_known():
    error, api, slept = ask(500, 500, 500)
    assert isinstance(error, errors.Unreachable)
    assert "said 500" in error.detail
    assert (len(api.requests), len(slept)) == (3, 2)


def test_429_is_asked_again_when_the_server_said():
    answer, _, slept = ask((429, {"Retry-After": "2"}), 200)
    assert answer["message"] == "said 200"
    assert slept == [2.0]


def test_a_long_wait_is_left_to_the_caller():
    error, api, slept = ask((429, {"Retry-After": "60"}), 200)
    assert isinstance(error, errors.Unreachable)
    assert error.retry_after == 60.0
    assert (len(api.requests), slept) == (1, [])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Rejected),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.Absent),
        (409, errors.Changed),
        (410, errors.Expired),
        (422, errors.Rejected),
    ],
)
def test_a_refusal_is_not_asked_again(status, kind):
    error, api, _ = ask(status)
    assert type(error) is kind
    assert len(api.requests) == 1
    assert f"said {status}" in error.detail


def test_a_used_up_quota_is_no_missing_right():
    message = 'pods "p" is forbidden: exceeded quota: none, requested: pods=1'
    assert isinstance(meaning(403, {"message": message}), errors.QuotaExceeded)


def test_a_broken_certificate_is_told():
    from kubernetes.client import ApiException

    error, *_ = ask(*[ApiException(status=0, reason="CERTIFICATE_VERIFY_FAILED")] * 3)
    assert "CERTIFICATE_VERIFY_FAILED" in error.detail
