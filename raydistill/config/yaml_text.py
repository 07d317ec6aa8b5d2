"""YAML as people write it: ``1e-3`` is a number, and a key is given once."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, cast

import yaml

from raydistill.errors import UserError

_MOST_LETTERS = 4_000_000
_MOST_NODES = 100_000
_LONGEST_NUMBER = 5000  # letters; some that are longer take hours to be read as one
_LARGEST_KEY = 2**61 - 2  # beyond it numbers begin to share their hashes


class _Checks(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """Reads ``1e-3`` as the number the user meant and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or (isinstance(key, int) and abs(key) > _LARGEST_KEY):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and len(value) > _LONGEST_NUMBER:
            return "tag:yaml.org,2002:str"
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _Yaml(_Checks, yaml.SafeLoader):
    """Safe YAML in Python, whose errors say most."""


_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it


class _FastYaml(_Checks, _FastLoader):  # type: ignore[misc]
    """The same in a fifth of the time."""


class _YamlDumper(yaml.SafeDumper):
    """Quotes texts that ``_Yaml`` would read as numbers."""


_FastDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml where PyYAML was built with it


class _FileDumper(_FastDumper):  # type: ignore[misc]
    """The same for whole files, a recipe per trial among them: the same text in a fifth of the time."""


for _class in (_Yaml, _FastYaml, _YamlDumper, _FileDumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def read_value(text: str, quickly: bool = False) -> Any:
    """Return what ``text`` means, in a time that its length bounds.

    Args:
        text: YAML.
        quickly: say less of what is wrong.

    Raises:
        ValueError: when it is not YAML, or too much, with the reason in one line.
    """
    if len(text) > _MOST_LETTERS:
        raise ValueError(f"{len(text):,} letters, more than the {_MOST_LETTERS:,} that are read")
    try:
        _count_events(text)
        loader: Any = _FastYaml(text) if quickly else _Yaml(text)  # type: ignore[call-arg]
        node = loader.get_single_node()
        if node is None:
            return None
        if _num_nodes(node, {}) > _MOST_NODES:
            raise _too_much()
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("lists and mappings nested too deeply") from error
    except (LookupError, AttributeError, TypeError, OverflowError) as error:  # !!int '', !!bool maybe, !!timestamp now
        raise ValueError("a value that is not of the kind its tag says") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2020-13-45, or a number of thousands of digits
        raise ValueError(one_line(error).partition("; use sys.")[0]) from error


def read_mapping(text: str, where: str, quickly: bool = False) -> dict[str, Any]:
    """Return the mapping in ``text``; ``quickly`` as in ``read_value``.

    Raises:
        UserError: when it holds something else; the message begins with ``where``.
    """
    try:
        raw = read_value(text, quickly)
    except ValueError as error:
        raise UserError(f"{where}: must be YAML ({error})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must hold sections with settings, got {type(raw).__name__}")
    return cast(dict[str, Any], raw)


def write(value: Any) -> str:
    """Return ``value`` as YAML that ``read_value`` reads back to an equal value."""
    return yaml.dump(value, Dumper=_FileDumper, sort_keys=False, width=110, default_flow_style=None)


def in_one_line(value: Any) -> str:
    """Return ``value`` as short YAML.

    >>> in_one_line({"shape": "step", "milestones": [0.5], "factor": None})
    '{shape: step, milestones: [0.5], factor: null}'
    """
    text = yaml.dump(
        value, Dumper=_YamlDumper, sort_keys=False, width=float("inf"), default_flow_style=True, allow_unicode=True
    )
    return text.strip().removesuffix("\n...")


def _count_events(text: str) -> None:
    """Raise where a text holds so much that building it would take long; what is wrong with it is told by others."""
    if len(text) < _MOST_NODES:
        return
    num_events = 0
    try:
        for _ in yaml.parse(text, Loader=_FastLoader):
            num_events += 1
            if num_events > 2 * _MOST_NODES:
                break
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    if num_events > 2 * _MOST_NODES:
        raise _too_much()


def _too_much() -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, f"more than {_MOST_NODES} values, aliases written out")


def _num_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values below ``node`` as if each alias were written out: ten lines can stand for billions.

    Raises:
        yaml.constructor.ConstructorError: where a value holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0  # not counted to its end
        inner = (child for entry in node.value for child in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_num_nodes(child, known) for child in inner)
    elif not known[id(node)]:
        raise yaml.constructor.ConstructorError(None, None, "a value that holds itself", node.start_mark)
    return known[id(node)]


def one_line(error: Exception) -> str:
    """Return the message of ``error`` without line breaks."""
    return " ".join(str(error).split())
