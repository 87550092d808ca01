"""What every test of a workflow stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatehouse.rehearse.github import GitHub
from gatehouse.rehearse.index import Indexes
from tests.support.act import materialise, require_act
from tests.workflows.train import Train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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


@pytest.fixture
def indexes(gh: GitHub, tmp_path: Path) -> Iterator[Indexes]:
    """PyPI and TestPyPI, empty, which know the GitHub that signs for its jobs."""
    with Indexes(tmp_path / "indexes", gh) as both:
        yield both


@pytest.fixture
def train(gh: GitHub, indexes: Indexes, suite: Path, tmp_path: Path) -> Callable[[Mapping[str, str]], Train]:
    """Makes the repository of a package that has these workflows."""
    return lambda templates: Train(gh, indexes, suite, tmp_path, templates)
