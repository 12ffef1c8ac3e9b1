"""Environment variables that a workspace may not set, because they change what is applied,
where the state goes, or which program runs. Server and agent use the same list; no Django."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_REFUSED = {
    "PATH",
    "HOME",
    "TMPDIR",
    "TMP",
    "TEMP",
    "SHELL",
    "IFS",
    "ENV",
    "BASH_ENV",
    "USER",
    "LOGNAME",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PERL5LIB",
    "NODE_OPTIONS",
    "TF_DATA_DIR",
    "TF_REATTACH_PROVIDERS",
    "TF_WORKSPACE",
    "TERRAFORM_CONFIG",
    "TF_INPUT",
    "TF_IN_AUTOMATION",
    "TF_APPEND_USER_AGENT",
    "TF_STATE_PERSIST_INTERVAL",
    "TF_SKIP_PROVIDER_VERIFY",
    "TF_ENCRYPTION",
    "GOTRACEBACK",
    "CHECKPOINT_DISABLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
}
_REFUSED_PREFIXES = (
    "TF_CLI_",
    "TF_LOG",
    "TF_PLUGIN_",
    "PLUGIN_",
    "TF_HTTP_",
    "TF_TOKEN_",
    "TF_VAR_",
    "TF_FORCE_",
    "LD_",
    "XDG_",
    "DYLD_",
    "GIT_",
    "SLIPWAY_",
    "DJANGO_",
    "GODEBUG",
)


def refusal(name: str) -> str:
    """Return why an environment variable may not be set, "" if it may."""
    if not NAME.fullmatch(name):
        return "Use letters, digits and underscores, not beginning with a digit."
    upper = name.upper()
    if upper.startswith("TF_VAR_"):
        return "Make it a Terraform variable instead of an environment variable."
    if upper.startswith("TF_TOKEN_"):
        return "Make it a registry credential of the project instead."
    if upper in _REFUSED or upper.startswith(_REFUSED_PREFIXES):
        return f"{name} would change how Terraform is run; Slipway sets it itself."
    return ""
