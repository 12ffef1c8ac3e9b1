import pytest

from tasks_app.addresses import check_addresses
from tasks_app.environment_names import refusal
from tasks_app.exceptions import InvalidInput


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "Path", "HOME", "LD_PRELOAD", "ld_library_path", "DYLD_INSERT_LIBRARIES"),
        *("TF_CLI_ARGS", "TF_CLI_ARGS_apply", "TF_CLI_CONFIG_FILE", "TF_DATA_DIR", "TF_WORKSPACE"),
        *("TF_LOG", "TF_LOG_PATH", "TF_REATTACH_PROVIDERS", "TF_PLUGIN_CACHE_DIR", "TF_INPUT"),
        *("TF_HTTP_ADDRESS", "TF_HTTP_PASSWORD", "TF_VAR_x", "TF_TOKEN_example_com"),
        *("PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_UNIX_SOCKET_GROUP", "PLUGIN_CLIENT_CERT"),
        *("GIT_SSH_COMMAND", "BASH_ENV", "PYTHONPATH", "XDG_CONFIG_HOME", "SLIPWAY_URL"),
        *("", "1A", "A-B", "A B", "A=B", "PATH\n", "A\n", "A\0", "Ä"),
    ],
)
def test_refused_environment_variables_say_why(name):
    assert refusal(name)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "HTTPS_PROXY", "ARM_TENANT_ID", "_x", "a1"])
def test_credentials_of_providers_are_allowed(name):
    assert refusal(name) == ""


@pytest.mark.parametrize(
    "address",
    [
        "aws_instance.a",
        "module.a",
        'module.a["x/y z"].aws_instance.b[0]',
        "data.aws_ami.c",
        'aws_iam_user.u["ada@example.com, the first"]',
        'x.y["a \\"quoted\\" key"]',
        "aws_instance.größe",
        "a-b.c-d",
    ],
)
def test_addresses_that_terraform_knows(address):
    check_addresses("targets", [address])


@pytest.mark.parametrize(
    "address",
    [
        "-destroy",
        "--",
        "",
        " a.b",
        "a.b\n",
        "a b",
        "$(rm)",
        "a.b;c",
        "a..b",
        'a["b]',
        "a[-1]",
        "a[",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidInput) as refused:
        check_addresses("targets", [address])
    assert refused.value.field == "targets"


def test_how_many_addresses_and_how_long():
    check_addresses("replace", ["a.b"] * 200)
    with pytest.raises(InvalidInput):
        check_addresses("replace", ["a.b"] * 201)
    with pytest.raises(InvalidInput):
        check_addresses("replace", ["a" * 501])
    with pytest.raises(InvalidInput):
        check_addresses("replace", [7])  # type: ignore[list-item]
