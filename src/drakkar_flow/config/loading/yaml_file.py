"""Reading a YAML file into a layer: every value with its line and column, `${VARIABLES}` filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from drakkar_flow.config.loading.layers import MAX_INT_BITS, BeyondBudgetError, Budget, Filled, Layer
from drakkar_flow.config.schema import Path

__all__ = ["read_yaml"]

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|\$\{", re.ASCII)
_MERGE: Final = "tag:yaml.org,2002:merge"
_STRING: Final = "tag:yaml.org,2002:str"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_BINARY: Final = "tag:yaml.org,2002:binary"
_COLLECTIONS: Final = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


_SYNTAX = "correct this line or the one above: indent with spaces, close quotes and brackets"


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text: no setting is a date, and `2026-01-01` may well name a topic. No binary either."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in (_TIMESTAMP, _BINARY)
    }


def read_yaml(path: FilePath, environ: Mapping[str, str], remedy: str = "") -> Layer:
    """The file's values; what is wrong with it stands in the layer's `problems`, nothing is raised.

    `remedy` is what to do when the file can't be opened.
    """
    layer = Layer(origins={(): str(path)})
    text = _read_text(path, layer, remedy)
    if layer.problems:
        return layer
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _Reader(loader, layer, environ).read_root(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        layer.origins[()] = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        what = f"is not YAML: {', '.join(filter(None, [error.context, error.problem]))}"
        layer.blame((), what, _SYNTAX if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError) else "")
    except yaml.reader.ReaderError as error:
        layer.origins[()] = f"{path}:{text.count(chr(10), 0, error.position) + 1}"
        layer.blame((), f"is not YAML: the character U+{error.character:04X} is not allowed")
    except (BeyondBudgetError, RecursionError) as error:
        layer.blame((), str(error) if isinstance(error, BeyondBudgetError) else "values nest too deeply")
    return layer


def _read_text(path: FilePath, layer: Layer, remedy: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        layer.blame((), f"is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}")
    except FileNotFoundError:
        layer.blame((), "file not found", remedy)
    except IsADirectoryError:
        layer.blame((), "is a directory, not a file", remedy)
    except OSError as error:
        layer.blame((), f"can't be read: {error.strerror or error}", remedy)
    except ValueError as error:
        layer.blame((), f"is no file name: {error}", remedy)
    return ""


class _Reader:
    """Turns a graph of YAML nodes into values, noting where each stands."""

    def __init__(self, loader: yaml.SafeLoader, layer: Layer, environ: Mapping[str, str]) -> None:
        self._loader = loader
        self._layer = layer
        self._environ = environ
        self._budget = Budget()
        self._file = layer.origins[()]

    def read_root(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            self._layer.tree = self._mapping(node, ())
        elif self._value(node, ()) is not None:
            self._mark((), node)
            kind = "list" if isinstance(node, yaml.SequenceNode) else "value"
            self._layer.blame((), f"the top level must be a mapping of sections, not a {kind}")

    def _value(self, node: yaml.Node, path: Path) -> Any:
        if wrong := self._budget.spend(path):
            raise BeyondBudgetError(f"{wrong}; is there an alias that contains itself?")
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            self._blame(path, node, f"the tag {node.tag} has no meaning here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: Path) -> Any:
        self._mark(path, node)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values = {}
        for name, (key, value) in self._entries(node, path).items():
            self._mark((*path, name), key)
            values[name] = self._value(value, (*path, name))
        return values

    def _entries(self, node: yaml.MappingNode, path: Path, depth: int = 0) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The mapping's key and value nodes by key as written, `<<` merged below its own."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = self._merged(source, path, depth) | merged
            elif not isinstance(key, yaml.ScalarNode):
                self._blame(path, key, "a key must be text")
            elif key.value in own:
                first = own[key.value][0].start_mark
                self._blame((*path, key.value), key, f"the key stands here twice, first in line {first.line + 1}")
            else:
                own[key.value] = (key, value)
        return merged | own

    def _merged(self, node: yaml.Node, path: Path, depth: int) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if wrong := self._budget.spend((*path, *[0] * depth)):
            raise BeyondBudgetError(f"{wrong}; is there an alias that contains itself?")
        if isinstance(node, yaml.MappingNode):
            return self._entries(node, path, depth + 1)
        self._blame(path, node, "'<<' merges mappings only")
        return {}

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError, KeyError, IndexError) as error:
            problem = error.problem if isinstance(error, yaml.constructor.ConstructorError) else None
            self._blame(path, node, problem or f"{node.value[:40]!r} can't be read as {node.tag.rpartition(':')[2]}")
            return node.value
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            self._blame(path, node, f"the number has more than {MAX_INT_BITS} bits")
        return self._filled_in(value, path) if isinstance(value, str) and node.tag == _STRING else value

    def _filled_in(self, text: str, path: Path) -> str:
        """The text with `${NAME}` and `${NAME:-default}` replaced from the environment."""

        def replace(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            if match["name"] is None:
                self._layer.blame(path, "'${' begins no variable", "write ${NAME}, ${NAME:-default}, or $${ for '${'")
                return match[0]
            value = self._environ.get(match["name"])
            if not value and match["default"] is not None:
                return str(match["default"])
            if value is None:
                remedy = f"set it, or write ${{{match['name']}:-default}}"
                self._layer.blame(path, f"the environment variable {match['name']} is not set", remedy)
            self._layer.filled.append(Filled(path, match["name"], value or ""))
            return value or ""

        return _REFERENCE.sub(replace, text)

    def _mark(self, path: Path, node: yaml.Node) -> None:
        self._layer.origins[path] = f"{self._file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def _blame(self, path: Path, node: yaml.Node, what: str, remedy: str = "") -> None:
        self._mark(path, node)
        self._layer.blame(path, what, remedy)
