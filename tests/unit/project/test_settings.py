"""Settings from the environment, and the checks at start."""

import base64
from pathlib import Path

import pytest

from config import checks
from tasks_app.conf import SlipwaySettings, variable

KEY = base64.b64encode(b"k" * 32).decode()


def ids(messages):
    return [message.id for message in messages]


@pytest.fixture
def slipway(settings):
    """Replace settings.SLIPWAY by one read from an environment."""

    def use(**environ):
        settings.SLIPWAY = SlipwaySettings.from_environ(environ)

    return use


def test_values_have_the_type_of_their_field():
    read = SlipwaySettings.from_environ(
        {
            "SLIPWAY_ENCRYPTION_KEYS": f"new:{KEY}, old:{KEY}",
            "SLIPWAY_WORK_DIRECTORY": "/srv/work",
            "SLIPWAY_POLL_SECONDS": "2.5",
            "SLIPWAY_ARCHIVE_FILES_MAX": "7",
            "SLIPWAY_LOG_BYTES_MAX": " ",
            "DATABASE_DIRECT_URL": "postgres://direct/x",
        }
    )
    assert list(read.encryption_keys) == ["new", "old"]
    assert read.encryption_keys["new"] == b"k" * 32
    assert read.work_directory == Path("/srv/work")
    assert read.poll_seconds == 2.5
    assert read.archive_files_max == 7
    assert read.log_bytes_max == 100 * 1024**2
    assert read.database_direct_url == "postgres://direct/x"


def test_defaults_of_the_installation_yield_to_the_environment():
    read = SlipwaySettings.from_environ(
        {"SLIPWAY_URL": "https://a.example"}, url="x", poll_seconds=1
    )
    assert read.url == "https://a.example"
    assert read.poll_seconds == 1


@pytest.mark.parametrize("text", ["soon", "-1"])
def test_a_number_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="SLIPWAY_POLL_SECONDS"):
        SlipwaySettings.from_environ({"SLIPWAY_POLL_SECONDS": text})


def test_variable_names():
    assert variable("keep_warm_seconds") == "SLIPWAY_KEEP_WARM_SECONDS"
    assert variable("database_direct_url") == "DATABASE_DIRECT_URL"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", ["slipway.E002"]),
        (f"k1:{KEY}", []),
        ("k1:too-short", ["slipway.E003"]),
        ("k1:" + base64.b64encode(b"k" * 31).decode(), ["slipway.E003"]),
        (f":{KEY}", ["slipway.E003"]),
        (f"k1:{KEY},k2:?", ["slipway.E003"]),
    ],
)
def test_encryption_keys_are_checked(slipway, keys, expected):
    slipway(SLIPWAY_ENCRYPTION_KEYS=keys)
    assert ids(checks.check_encryption_keys(None)) == expected


def test_no_message_holds_a_key(slipway):
    slipway(SLIPWAY_ENCRYPTION_KEYS="k1:c2VjcmV0")
    (message,) = checks.check_encryption_keys(None)
    assert "c2VjcmV0" not in str(message)
    assert "secret" not in str(message)


def test_a_missing_secret_key_is_found(settings):
    assert not checks.check_secret_key(None)
    settings.SECRET_KEY = ""
    assert ids(checks.check_secret_key(None)) == ["slipway.E001"]


def test_the_work_directory_must_be_usable(slipway, tmp_path):
    def found(path):
        slipway(SLIPWAY_WORK_DIRECTORY=str(path))
        return ids(checks.check_work_directory(None))

    (tmp_path / "file").touch()
    assert found(tmp_path / "made" / "later") == []
    assert found("relative/path") == ["slipway.E004"]
    assert found(tmp_path / "file") == ["slipway.E004"]
    assert found(tmp_path / "file" / "below") == ["slipway.E004"]


def test_a_missing_engine_is_only_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    (message,) = checks.check_engine(None)
    assert message.id == "slipway.W001"
    assert not message.is_serious()
    (tmp_path / "tofu").touch(mode=0o755)
    assert checks.check_engine(None) == []
