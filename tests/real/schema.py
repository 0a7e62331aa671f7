"""The part of JSON Schema that the schemas in `docs/` use: enough to check a document against them."""

from __future__ import annotations

import re
from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
KNOWN = {
    "$schema",
    "title",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "const",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
}


def problems(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """What contradicts the schema, as `place: what`; a keyword that is not known here is a problem of its
    own.
    """
    found = [f"{where}: unknown keyword {name}" for name in schema.keys() - KNOWN]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) and not isinstance(value, bool) for kind in kinds):
        return [*found, f"{where}: {value!r} is not {kinds}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where}: {value} is out of range")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{where}: {len(value)} items")
        for number, item in enumerate(value):
            found += problems(item, schema.get("items", {}), f"{where}[{number}]")
    if isinstance(value, dict):
        found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        rest = schema.get("additionalProperties", {})
        for name, item in value.items():
            if name in schema.get("properties", {}):
                found += problems(item, schema["properties"][name], f"{where}.{name}")
            elif rest is False:
                found.append(f"{where}: {name} is not in the schema")
            else:
                found += problems(item, rest, f"{where}.{name}")
    return found
