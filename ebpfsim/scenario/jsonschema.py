"""The JSON Schema of scenario files, made from the models."""

from typing import Any

from ebpfsim.scenario.schema import ScenarioModel

__all__ = ["scenario_schema"]


def scenario_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12); keys that begin with ``x-`` are allowed everywhere."""
    schema = ScenarioModel.model_json_schema()
    for block in (schema, *schema.get("$defs", {}).values()):
        if block.get("additionalProperties") is False:
            block["patternProperties"] = {"^x-": {}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "ebpfsim scenario"}
