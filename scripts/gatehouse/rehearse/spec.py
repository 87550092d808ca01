"""Checks requests and replies against GitHub's own OpenAPI description, and fills replies out to it.

`github_openapi.json` beside this file is cut from the description that GitHub publishes for its own clients
(`tools/cut_openapi.py` says from where).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

DESCRIPTION = Path(__file__).with_name("github_openapi.json")

WITH_SLASHES = {"ref", "branch", "tag"}
"""Path parameters that may hold a slash as it is, which the description has no way to say."""


class SpecError(Exception):
    """A request or a reply that GitHub's description does not allow."""


@dataclass(frozen=True)
class Operation:
    """One operation of the description; `parameters` by (place, name), references resolved.

    `uploads` says that it is on GitHub's other server, the one that takes files. `rank` is lower for a path
    of more fixed text, which goes before one that a parameter could swallow.
    """

    id: str
    method: str
    pattern: re.Pattern[str]
    parameters: dict[tuple[str, str], dict[str, Any]]
    body: dict[str, Any] | None
    responses: dict[str, Any]
    uploads: bool
    rank: int


@dataclass(frozen=True)
class Call:
    """A request that follows the description; `path` and `query` hold values of the described types.

    `body` is JSON's value, or bytes for a file; `headers` are by lower-case name.
    """

    operation: Operation
    path: dict[str, Any]
    query: dict[str, Any]
    body: Any
    headers: Mapping[str, str]


class Spec:
    """The description, ready to check with."""

    def __init__(self, file: Path = DESCRIPTION) -> None:
        from jsonschema import Draft4Validator  # noqa: PLC0415 65 ms that only a stand-in needs

        self._description = _null_as_type(json.loads(file.read_bytes()))
        self._validator = Draft4Validator
        self._operations = [
            self._operation(template, method, item)
            for template, methods in self._description["paths"].items()
            for method, item in methods.items()
        ]
        self._operations.sort(key=lambda operation: operation.rank)
        self._cached = cache(self._compiled)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
        *,
        uploads: bool = False,
    ) -> Call:
        """The call that a request makes; raises SpecError, also for what the description does not list.

        `uploads` says that it was sent to the server that takes files.
        """
        for operation in self._operations:
            asked = (operation.method, operation.uploads)
            if asked == (method, uploads) and (found := operation.pattern.fullmatch(path)):
                break
        else:
            _refuse(f"{method} {path} is not among the described operations")
        what = f"{method} {path}"
        given = {("path", name): unquote(value) for name, value in found.groupdict().items()}
        given |= {("query", name): value for name, value in query.items()}
        values: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
        for place, name in given:
            if (place, name) not in operation.parameters:
                _refuse(f'{what}: unknown {place} parameter "{name}"')
            schema = operation.parameters[place, name]["schema"]
            value = _typed(given[place, name], self._resolved(schema).get("type"))
            self._check(schema, value, f"{what}: {place} parameter {name}")
            values[place][name] = value
        for (place, name), parameter in operation.parameters.items():
            if parameter.get("required") and place in values and name not in values[place]:
                _refuse(f'{what}: {place} parameter "{name}" is missing')
        content = self._body(operation, body, headers, what)
        return Call(operation, values["path"], values["query"], content, headers)

    def reply(self, operation: Operation, status: int, body: Any) -> None:
        """Check a reply (body as JSON value, None for none).

        An error status that the operation does not list, or not with a body, is allowed (401, 429 and 5xx can
        meet any of them), but it must carry GitHub's general error body. Raises SpecError.
        """
        what = f"{operation.id}: reply {status}"
        described = operation.responses.get(str(status))
        if described is None:
            if status < HTTPStatus.BAD_REQUEST:
                _refuse(f"{what} is not described, only {', '.join(operation.responses)}")
            self._check({"$ref": "#/components/schemas/basic-error"}, body, what)
            return
        content = self._resolved(described).get("content", {}).get("application/json")
        if content:
            self._check(content["schema"], body, what)
        elif status >= HTTPStatus.BAD_REQUEST:
            self._check({"$ref": "#/components/schemas/basic-error"}, body, what)
        elif body is not None:
            _refuse(f"{what} has a body where none is described")

    def fill(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """An object of the schema `name`: `given`, and the plainest value for every other required key."""
        filled = self._filled({"$ref": f"#/components/schemas/{name}"}, given)
        assert isinstance(filled, dict)  # noqa: S101 every schema that we name is an object
        return filled

    def _filled(self, schema: dict[str, Any], given: Any) -> Any:
        schema = self._resolved(schema)
        for choices in ("anyOf", "oneOf"):
            if choices in schema:
                plain = schema[choices]
                if given is None and {"type": "null"} in plain:
                    return None
                return self._filled(plain[0], given)
        if schema.get("type") == "object" and (given is None or isinstance(given, dict)):
            given = given or {}
            properties = schema.get("properties", {})
            whole = dict.fromkeys(schema.get("required", [])) | given
            return {key: self._filled(properties.get(key, {}), value) for key, value in whole.items()}
        if given is not None:
            return given
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("format") == "uri":
            return "http://127.0.0.1/"
        if schema.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        plainest = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}
        return plainest.get(schema.get("type", ""))

    def _operation(self, template: str, method: str, item: dict[str, Any]) -> Operation:
        parameters = [self._resolved(parameter) for parameter in item.get("parameters", [])]
        parts = re.split(r"{(\w+)}", template)
        pattern = "".join(
            f"(?P<{part}>{'.+' if part in WITH_SLASHES else '[^/]+'})" if i % 2 else re.escape(part)
            for i, part in enumerate(parts)
        )
        return Operation(
            id=item["operationId"],
            method=method.upper(),
            pattern=re.compile(pattern),
            parameters={(parameter["in"], parameter["name"]): parameter for parameter in parameters},
            body=self._resolved(item["requestBody"]) if "requestBody" in item else None,
            responses=item["responses"],
            uploads="servers" in item,
            rank=-len("".join(parts[::2])),
        )

    def _body(self, operation: Operation, body: bytes, headers: Mapping[str, str], what: str) -> Any:
        if operation.body is None:
            return _refuse(f"{what} takes no body") if body else None
        if "application/json" not in operation.body["content"]:
            return body if headers.get("content-type") else _refuse(f"{what}: a file needs a Content-Type")
        if not body:
            return _refuse(f"{what}: the body is missing") if operation.body.get("required") else {}
        try:
            value = json.loads(body)
        except ValueError as e:
            _refuse(f"{what}: the body is not JSON: {e}")
        schema = self._resolved(operation.body["content"]["application/json"]["schema"])
        self._check(schema, value, f"{what}: body")
        # GitHub ignores unknown keys, so a misspelt one would be lost in silence: here it is told.
        choices = [self._resolved(one) for one in schema.get("oneOf", schema.get("anyOf", [schema]))]
        known = {name for choice in choices for name in choice.get("properties", {})}
        if unknown := set(value) - known:
            _refuse(f"{what}: body: unknown {', '.join(sorted(unknown))}")
        return value

    def _check(self, schema: dict[str, Any], value: Any, what: str) -> None:
        faults = [
            f"{what}: {'/'.join(map(str, fault.absolute_path))}: {fault.message[:200]}"
            for fault in self._cached(json.dumps(schema, sort_keys=True)).iter_errors(value)
        ]
        if faults:
            _refuse("; ".join(faults[:5]))

    def _compiled(self, schema: str) -> Any:
        return self._validator({"components": self._description["components"], "allOf": [json.loads(schema)]})

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target = self._description
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            node = target
        return node


def _null_as_type(node: Any) -> Any:
    """OpenAPI 3.0's `nullable: true`, which JSON Schema does not know, said as `anyOf` with `null`."""
    if isinstance(node, list):
        return [_null_as_type(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _null_as_type(value) for key, value in node.items()}
    return {"anyOf": [plain, {"type": "null"}]} if plain.pop("nullable", None) is True else plain


def _typed(value: str, kind: str | None) -> Any:
    """A query or path value as the described type; one that is not left as it is, for the check to refuse."""
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "boolean":
        return {"true": True, "false": False}.get(value, value)
    return value


def _refuse(reason: str) -> NoReturn:
    raise SpecError(reason)
