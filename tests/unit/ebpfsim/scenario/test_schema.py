"""The models: every kind of event and expectation has its step and its judgement, or is told to be missing."""

import json

from ebpfsim.scenario import check, expect, steps
from ebpfsim.scenario.jsonschema import scenario_schema
from ebpfsim.scenario.schema import EVENT_KINDS, EXPECT_KINDS, EventBlock, ExpectBlock, KernelBlock, ScenarioModel


def test_every_event_has_its_check_and_its_step() -> None:
    assert set(check.EVENT_CHECKS) == set(EVENT_KINDS)
    assert set(steps.STEPS) == set(EVENT_KINDS)


def test_every_expectation_has_its_check_and_its_judgement() -> None:
    assert set(check.EXPECT_CHECKS) == set(EXPECT_KINDS)
    assert set(expect.KINDS) == set(EXPECT_KINDS)


def test_every_key_belongs_to_a_kind() -> None:
    for block, kinds, common in ((EventBlock, EVENT_KINDS, {"at"}), (ExpectBlock, EXPECT_KINDS, set())):
        belonging = {*kinds, *(key for keys in kinds.values() for key in keys), *common}
        assert set(block.model_fields) == belonging


def test_settings_of_kernels_are_those_of_the_simulation() -> None:
    import inspect

    from ebpfsim.simulation import Simulation

    # types for CO-RE concern the objects, not the machine
    assert set(KernelBlock.model_fields) - {"btf"} == set(inspect.signature(Simulation.host).parameters) - {
        "self",
        "name",
    }


def test_json_schema_speaks_of_texts_with_units() -> None:
    schema = scenario_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(ScenarioModel.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["patternProperties"] == {"^x-": {}}
    link = schema["$defs"]["LinkBlock"]
    assert link["properties"]["delay"]["type"] == ["string", "integer"]
    assert link["required"] == ["ends"]
    assert "default" in schema["$defs"]["InterfaceBlock"]["properties"]["mtu"]


def test_the_json_schema_says_what_may_be_written() -> None:
    schema = scenario_schema()["$defs"]
    (files,) = schema["HostBlock"]["properties"]["files"]["patternProperties"].values()
    assert [row.get("type", row.get("$ref")) for row in files["anyOf"]] == ["string", "#/$defs/FileBlock", "null"]
    assert set(schema["TaskBlock"]["required"]) == {"name", "steps"}
    task = schema["EventBlock"]["properties"]["task"]
    assert task["anyOf"][0] == {"$ref": "#/$defs/TaskBlock"}
    address = schema["InterfaceBlock"]["properties"]["address"]["anyOf"]
    assert [row["type"] for row in address] == [["string", "integer"], "array"]
