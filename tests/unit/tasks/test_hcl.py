import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.hcl import fault

VALID = [
    '"a"',
    '""',
    "null",
    "true",
    "-1.5e3",
    "[1, 2, 3]",
    "[]",
    "{}",
    '{ a = "b", "c d" : [true] }',
    '{\n  a = 1 # with a } and a "\n  b = 2 // ]\n  /* ( \n */ c = 3\n}',
    '"a # is no comment // here /* either"',
    '"a \\"quoted\\" \\\\"',
    '"$${not a template} %%{nor this}"',
    '"${join(",", ["a", "b"])}"',
    '"%{ if true }yes%{ else }no%{ endif }"',
    '"${"nested ${1 + 1}"}"',
    "<<EOT\nit's ( [ { \" free text\nEOT",
    "<<-EOT\n    indented\n    EOT\n",
    "[<<A\nx\nA\n, <<B\ny\nB\n]",
    "{ for k, v in { a = 1 } : k => v if v != 0 }",
    "[for x in [1, 2] : x * 2]",
    'true ? "a" : "b"',
    'tomap({ "a" = "b" })',
    "1 + (2 * 3) % 4 >= 5 && !false",
    '{ "ключ" = "значение" }',
    '[{ key = "value" }][0].key',
    '# first a comment\n"x"',
]
BROKEN = [
    ("", "empty"),
    ("  # only a comment", "empty"),
    ("hello", "in quotes"),
    ("eu-west-1", "in quotes"),
    ('"hello', "not closed"),
    ('["a", "b"', "not closed"),
    ("{ a = 1", "not closed"),
    ('"${1 + "', "not closed"),
    ("1)", "closes nothing"),
    ("[1, 2}", "closes nothing"),
    ("'a'", "double quotes"),
    ("{ a = 1; b = 2 }", "not HCL"),
    ('"two\nlines"', "line break"),
    ("<<EOT\nfor ever", "EOT"),
    ("/* for ever", "not closed"),
]


@pytest.mark.parametrize("expression", VALID)
def test_what_terraform_accepts_is_never_refused(expression):
    assert fault(expression) == ""


@pytest.mark.parametrize(("expression", "reason"), BROKEN)
def test_what_cannot_be_hcl_is_refused_with_its_reason(expression, reason):
    assert reason in fault(expression)


def test_the_line_is_named():
    assert "line 3" in fault('{\n  a = 1\n  b = "x\n}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_json_is_hcl(value):
    import json

    text = json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
    assert fault(text) == ""
