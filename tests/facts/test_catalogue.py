"""Every fact of the catalogue has tests that are there, or says what is not modelled."""

import importlib.util
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("catalogue", HERE / "catalogue.py")
assert _spec
assert _spec.loader
catalogue = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(catalogue)


@pytest.mark.parametrize("section", catalogue.CATALOGUE)
def test_facts_have_tests(section: str) -> None:
    missing = []
    for fact, tests in catalogue.CATALOGUE[section]:
        if isinstance(tests, str) and tests.startswith("not modelled"):
            continue
        for test in (tests,) if isinstance(tests, str) else tests:
            name, _, function = test.partition("::")
            path = HERE.parent / name
            if not path.exists() or not re.search(rf"def {function}\(", path.read_text()):
                missing.append(f"{fact}: {test}")
    assert not missing, "\n".join(missing)
