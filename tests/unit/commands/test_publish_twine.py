"""What is read from twine's words, and what twine is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatehouse.commands._publish import (
    Credentials,
    Failure,
    _with_attestation,
    failure_of,
    without_tracebacks,
)
from gatehouse.errors import UserError
from gatehouse.release.index import TESTPYPI
from tests.support.dists import make_dist

FROM = "from https://upload.pypi.org/legacy/"
JOB = {
    "GITHUB_ACTIONS": "true",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1/oidc",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-secret",
}


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (f"ERROR HTTPError: 403 Forbidden {FROM}\nInvalid or non-existent", Failure.CREDENTIALS),
        (f"ERROR HTTPError: 400 Bad Request {FROM}\nFile already exists ('a', with", Failure.TAKEN),
        (f"ERROR HTTPError: 400 Bad Request {FROM}\nThis filename has already been used", Failure.TAKEN),
        (f"ERROR HTTPError: 400 Bad Request {FROM}\nInvalid classifier", Failure.REFUSED),
        (f"ERROR HTTPError: 413 Content Too Large {FROM}", Failure.REFUSED),
        (f"ERROR HTTPError: 429 Too Many Requests {FROM}", Failure.PASSING),
        (f"ERROR HTTPError: 503 Service Unavailable {FROM}", Failure.PASSING),
        ("TrustedPublishingFailure: ...\n* `invalid-publisher`: valid token, but", Failure.CREDENTIALS),
        ("TrustedPublishingFailure: ...\n* `invalid-reuse-token`: already used", Failure.PASSING),
        ("TrustedPublishingFailure: Unable to retrieve an OIDC token", Failure.PASSING),
        ("InvalidDistribution: Metadata is missing required fields", Failure.REFUSED),
        ("requests.exceptions.ConnectionError: ('Connection aborted.',", Failure.PASSING),
        ("", Failure.PASSING),
    ],
)
def test_why_an_upload_failed(output: str, why: Failure) -> None:
    """Twine's words tell what passes with time from what its user has to mend."""
    assert failure_of(output) is why


def test_tracebacks_are_cut_to_their_last_line() -> None:
    """Of a chain of tracebacks the errors stay, and everything that twine said before and after."""
    text = (
        "Uploading x\nTraceback (most recent call last):\n  File 'a', line 1\n    raise c\nOSError: first\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n  File 'd'\nrequests.ConnectionError: second\nend"
    )
    kept = [line for line in without_tracebacks(text).splitlines() if line]
    assert kept == ["Uploading x", "OSError: first", "requests.ConnectionError: second", "end"]


def test_twine_gets_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """The token alone where there is one, else the job's id token; no settings of twine, no other secrets."""
    build = make_dist(tmp_path)
    stray = {"TWINE_REPOSITORY_URL": "https://evil.example", "TWINE_PASSWORD": "old", "PYPI_TOKEN": "other"}
    stray |= {"GITHUB_TOKEN": "ghs", "PATH": "/bin"}
    by_token = Credentials.of(
        TESTPYPI, build, JOB | stray | {"TEST_PYPI_TOKEN": " pypi-x\n"}, attestations=False
    )
    given = by_token.environment()
    assert given["TWINE_PASSWORD"] == "pypi-x"
    assert given["TWINE_USERNAME"] == "__token__"
    assert given["PATH"] == "/bin"
    forbidden = {"TWINE_REPOSITORY_URL", "PYPI_TOKEN", "TEST_PYPI_TOKEN", "GITHUB_TOKEN"}
    assert not forbidden & set(given)
    assert not [name for name in given if name.startswith("ACTIONS_")]
    by_job = Credentials.of(TESTPYPI, build, JOB | stray, attestations=False).environment()
    assert "TWINE_PASSWORD" not in by_job
    assert by_job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] == "job-secret"


def test_secrets_are_masked(tmp_path: Path) -> None:
    """Neither token is left in what is shown, nor in the object's own text."""
    build = make_dist(tmp_path)
    for variables, secret in (({"TEST_PYPI_TOKEN": "pypi-secret"}, "pypi-secret"), (JOB, "job-secret")):
        credentials = Credentials.of(TESTPYPI, build, variables, attestations=False)
        assert secret not in credentials.mask(f"a {secret} b") + repr(credentials)


@pytest.mark.parametrize(
    ("variables", "attestations", "says"),
    [
        ({}, False, "id-token: write"),
        (JOB | {"GITHUB_ACTIONS": ""}, False, "secrets.TEST_PYPI_TOKEN }}"),
        ({"TEST_PYPI_TOKEN": "pypi-a b"}, False, "holds spaces"),
        (JOB | {"TEST_PYPI_TOKEN": "pypi-a"}, True, "trusted publisher"),
    ],
)
def test_what_one_cannot_publish_with(
    tmp_path: Path, variables: dict[str, str], attestations: bool, says: str
) -> None:
    """No credentials, a broken token, or attestations by a token are errors that say the repair."""
    build = make_dist(tmp_path)
    with pytest.raises(UserError, match=says) as error:
        Credentials.of(TESTPYPI, build, variables, attestations=attestations)
    assert "Nothing was uploaded." in str(error.value)


def test_files_are_no_options_of_twine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose name begins with a dash is still a folder."""
    monkeypatch.chdir(tmp_path)
    built, signed = Path("-x/a.whl"), Path("-x/a.whl.publish.attestation")
    assert _with_attestation(built) == [str(tmp_path / built)]
    built.parent.mkdir()
    signed.touch()
    assert _with_attestation(built) == [str(tmp_path / built), str(tmp_path / signed)]
