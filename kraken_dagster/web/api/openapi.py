"""The description of all routes as OpenAPI 3.1, made of the very endpoints that are served."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

from kraken_dagster.web.api.endpoint import ANY, JSON, ROOT, Endpoint
from kraken_dagster.web.api.problems import MEDIA_TYPE

_REFERENCE = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "The kind; `urn:kraken:` and the error's name."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What a command would print."},
        "file": {"type": "string"},
        "expected": {"type": "string"},
        "found": {"type": "string"},
        "next_step": {"type": "string"},
        "transient": {"type": "boolean", "description": "Whether it passes by itself."},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_MEANINGS = {
    307: "The address with its slash, or without.",
    400: "It can't be understood, or has no bound.",
    401: "No login and no token, or one that is not valid.",
    403: "What changes something needs a token with the scope `operate`.",
    404: "There is no such thing.",
    409: "It can't be done in the state that the thing is in.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    422: "A parameter is not what the route takes.",
    429: "Too many requests; `Retry-After` says when to ask again.",
    503: "MongoDB or a store can't be asked now; `Retry-After` says when to ask again.",
}
_ALWAYS = (400, 401, 403, 421, 429, 503)


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for item in endpoints:
        path = f"{ROOT}{item.path}".replace(f":{ANY}}}", "}")
        paths.setdefault(path, {})[item.method.lower()] = _operation(item, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kraken",
            "version": version("kraken-dagster"),
            "description": "Raw files, metrics and quality of a laboratory. Dates are UTC. "
            "See docs/rest.md.",
        },
        "servers": [{"url": "/", "description": "Where the page is served."}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`kraken token add NAME --scope read` prints one. On the "
                    "machine of the page one may read without.",
                }
            },
        },
    }


def _operation(item: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": item.summary,
        "operationId": f"{item.method.lower()}_{item.answer.__name__}",
        "parameters": [*_in_path(item), *_in_query(item, schemas)],
        "responses": _responses(item),
    }
    if item.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _taken_up(item.body, schemas)}}
        if item.body_example is not None:
            content["example"] = item.body_example
        found["requestBody"] = {"required": _needs_body(item.body), "content": {JSON: content}}
    return found


def _in_path(item: Endpoint) -> list[dict[str, Any]]:
    if "{id" not in item.path:
        return []
    example = item.path_example
    text = {"type": "string", "minLength": 1}
    return [{"name": "id", "in": "path", "required": True, "schema": text, "example": example}]


def _in_query(item: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if item.query is None:
        return []
    schema = _schema(item.query, schemas)
    found = []
    for name, part in schema.get("properties", {}).items():
        own = dict(part)
        description = own.pop("description", "")
        parameter = {"name": name, "in": "query", "description": description, "schema": own}
        if name in item.query_example:
            parameter["example"] = item.query_example[name]
        found.append(parameter)
    return found


def _responses(item: Endpoint) -> dict[str, Any]:
    if item.status == 307:
        return {"307": {"description": _MEANINGS[307]}}
    content: dict[str, Any] = {}
    for kind in item.media_types:
        is_json = kind == JSON
        content[kind] = {"schema": schema_of(item.example) if is_json else {"type": "string"}}
        if is_json:
            content[kind]["example"] = item.example
    own = (*item.errors, *((422,) if item.query or item.body else ()))
    own = (*own, *((413, 415) if item.body else ()))
    return {
        str(item.status): {"description": item.summary, "content": content},
        **{str(code): _problem(code, item) for code in sorted({*_ALWAYS, *own})},
    }


def _problem(code: int, item: Endpoint) -> dict[str, Any]:
    reference = {"schema": {"$ref": _REFERENCE.format(model="Problem")}}
    content = {MEDIA_TYPE: reference}
    if code == 422 and item.fault_example is not None:
        example = item.fault_example
        content = {JSON: {"schema": schema_of(example), "example": example}}
    return {"description": _MEANINGS.get(code, "Not answered."), "content": content}


def _needs_body(model: type[BaseModel]) -> bool:
    return any(part.is_required() for part in model.model_fields.values())


def _taken_up(model: type[BaseModel], schemas: dict[str, Any]) -> str:
    schemas[model.__name__] = _schema(model, schemas)
    return _REFERENCE.format(model=model.__name__)


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_REFERENCE)
    schemas |= schema.pop("$defs", {})
    return schema


def schema_of(example: Any) -> dict[str, Any]:
    """What an answer looks like, by an example: every part may be null, and more may come."""
    if isinstance(example, dict):
        parts = {name: schema_of(value) for name, value in example.items()}
        return {"type": ["object", "null"], "properties": parts}
    if isinstance(example, Sequence) and not isinstance(example, str):
        items = schema_of(example[0]) if example else {}
        return {"type": ["array", "null"], "items": items}
    if isinstance(example, bool):
        return {"type": ["boolean", "null"]}
    if isinstance(example, int | float):
        return {"type": ["number", "null"]}
    return {"type": ["string", "null"]} if isinstance(example, str) else {}
