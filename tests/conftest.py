"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test finds the results of an earlier one."""
    monkeypatch.setenv("LIONODE_CACHE", str(tmp_path / "cache"))
