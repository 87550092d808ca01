"""What every test of a workflow stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.github import GitHub
from tests.support.act import materialise, require_act

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def act() -> Path:
    """The `act` program, or no test here."""
    return require_act()


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository as a runner gets it."""
    return materialise(tmp_path_factory.mktemp("suite"))


@pytest.fixture
def gh(tmp_path: Path) -> Iterator[GitHub]:
    """A GitHub without repositories."""
    with GitHub(tmp_path / "github") as github:
        yield github
