"""The JSON schema of the configuration file, for editors and for those who write files by machine.

It says what JSON schema can say: that names refer to something, and that connection strings can be read, is checked
when a file is loaded.
"""

from typing import Any

from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from replcheck.config import model
from replcheck.config.model import Configuration

_NULL = {"type": "null"}


def configuration_schema() -> dict[str, Any]:
    """Return the schema of a file's keys as they are written: sizes and durations are texts with a unit."""
    schema = Configuration.model_json_schema(by_alias=True, mode="validation")
    sections = schema.pop("$defs")
    for name, section in {**sections, Configuration.__name__: schema}.items():
        section.pop("title", None)
        fields = {field.alias or key: field for key, field in getattr(model, name).model_fields.items()}
        section["properties"] = {
            key: _as_written(described, fields[key]) for key, described in section["properties"].items()
        }
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "replcheck configuration",
        **schema,
        "$defs": sections,
    }


def _as_written(described: dict[str, Any], field: FieldInfo) -> dict[str, Any]:
    """Return a key's schema as TOML has it: no null, no titles made from names, durations with their unit."""
    plain = {word: value for word, value in described.items() if word not in {"title", "anyOf"}}
    choices = [choice for choice in described.get("anyOf", []) if choice != _NULL]
    plain |= {"anyOf": choices} if len(choices) > 1 else (choices or [{}])[0]
    if plain.get("default", ...) is None or isinstance(plain.get("default"), dict):
        del plain["default"]
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    if plain.get("type") == "string" and isinstance(plain.get("default"), float):
        plain["default"] = f"{plain['default']:g}s"
    if "description" in plain and (bounds := _bounds(field)):
        plain["description"] = f"{plain['description'].rstrip('.')} ({bounds})."
    return plain


def _bounds(field: FieldInfo) -> str:
    """Return the bounds of a duration in words: JSON schema cannot bound what a text means."""
    if not any(isinstance(rule, WithJsonSchema) for rule in field.metadata):
        return ""
    words = {"ge": "at least", "le": "at most"}
    rules = [(word, getattr(rule, name, None)) for rule in field.metadata for name, word in words.items()]
    return ", ".join(f"{word} {bound}s" for word, bound in rules if bound is not None)
