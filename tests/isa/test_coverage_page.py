"""docs/coverage.md says what the tables say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from nexus.isa.x86 import features

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_page", ROOT / "tools" / "coverage.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(tool: ModuleType) -> None:
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert text == tool.page(), "run: PYTHONPATH=src python tools/coverage.py"


def test_what_is_refused_has_no_semantics(tool: ModuleType) -> None:
    """No encoding of a feature on the list of refusals is compared with anything."""
    compared = {code for codes in features.groups().values() for code in codes}
    refused = {code for codes in tool.every_code().values() for code in codes if tool.reason(code)}
    assert refused and not refused & compared
