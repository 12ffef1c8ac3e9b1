"""Pool templates: YAML in Kubernetes' own schema, merged into the default."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks_app.exceptions import InvalidInput

_FIELD = "pod_template"
_BYTES_MAX = 64 * 1024
#: Lists whose entries are merged by a key instead of being replaced (Kubernetes' strategic
#: merge, as its API reference notes them).
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}


@cache
def _default() -> dict[str, Any]:
    text = (Path(__file__).parent / "default_template.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def default_template() -> dict[str, Any]:
    """Return the template of a pool that has none."""
    return copy.deepcopy(_default())


def parse_template(text: str) -> dict[str, Any]:
    """Return a pool's template as it was written; "" is an empty one.

    Raises:
        InvalidInput: it is not YAML, or not of the form of a PodTemplateSpec.
    """
    if len(text.encode()) > _BYTES_MAX:
        raise InvalidInput(f"The template is longer than {_BYTES_MAX} bytes.", field=_FIELD)
    try:
        # An alias could make a few lines gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidInput("Write the template without YAML aliases (*name).", field=_FIELD)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise InvalidInput(f"The template is not YAML{line}: {problem}.", field=_FIELD) from None
    if content is None:
        return {}
    _must_be(content, dict, "The template", "a mapping with “metadata” and “spec”")
    for name in content.keys() - {"metadata", "spec"}:
        raise InvalidInput(
            f"A template has “metadata” and “spec”; remove “{name}”, or move it below “spec”.",
            field=_FIELD,
        )
    metadata, spec = content.get("metadata") or {}, content.get("spec") or {}
    _must_be(metadata, dict, "metadata", "a mapping")
    for name in metadata.keys() - {"labels", "annotations"}:
        raise InvalidInput(f"Slipway sets metadata.{name}; remove it.", field=_FIELD)
    _must_be(spec, dict, "spec", "a mapping")
    _check_lists(spec, "spec")
    return {"metadata": metadata, "spec": spec}


def _check_lists(node: Any, path: str) -> None:
    """Refuse lists that cannot be merged by their key."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            _check_lists(item, f"{path}[{number}]")
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        key = _KEYS.get(name) if isinstance(name, str) else None
        if key is not None and value is not None:
            _must_be(value, list, f"{path}.{name}", "a list")
            for number, item in enumerate(value):
                if not isinstance(item, dict) or not isinstance(item.get(key), str):
                    raise InvalidInput(
                        f"{path}.{name}[{number}] needs “{key}”, a text.", field=_FIELD
                    )
        _check_lists(value, f"{path}.{name}")


def _must_be(value: Any, kind: type, path: str, words: str) -> None:
    if not isinstance(value, kind):
        raise InvalidInput(f"{path} must be {words}.", field=_FIELD)


def merge(base: Any, change: Any, name: str = "") -> Any:
    """Return ``base`` with ``change`` in it; neither is altered.

    Maps are merged, a null removes, lists are replaced, except those that Kubernetes merges by
    a key.

    Args:
        name: of the field that both are values of.
    """
    if isinstance(base, dict) and isinstance(change, dict):
        merged = dict(base)
        for key, value in change.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(merged.get(key), value, key)
        return merged
    if isinstance(change, dict):
        return merge({}, change, name)  # without its nulls
    if isinstance(change, list) and name in _KEYS:
        return _merge_by_key(base if isinstance(base, list) else [], change, _KEYS[name])
    return copy.deepcopy(change)


def _merge_by_key(base: list[Any], change: list[Any], key: str) -> list[Any]:
    merged = {item[key]: item for item in base}
    for item in change:
        merged[item[key]] = merge(merged.get(item[key]), item)
    return list(merged.values())
