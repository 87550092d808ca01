"""Who may upload to an index: tokens, and trusted publishers, whose id tokens are exchanged for tokens."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gatehouse.rehearse.oidc import IdTokenError
from gatehouse.rehearse.tls import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN_LIFE = 900
"""Seconds that a minted token is valid, as on PyPI."""
_BAD_TOKEN = "Invalid or non-existent authentication information."  # noqa: S105 no token


class Issuer(Protocol):
    """Who signs the id tokens of jobs: the stand-in for GitHub."""

    def verify_id_token(self, token: str) -> dict[str, Any]:
        """The claims of a token that it signed; raises IdTokenError for any other."""


@dataclass(frozen=True)
class Publisher:
    """A workflow that may publish a project without a token; `environment` "" leaves that open."""

    project: str
    repository: str
    workflow: str
    environment: str

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether an id token's claims are this publisher's, by the rules of PyPI."""
        workflow = f"{self.repository}/.github/workflows/{self.workflow}@".lower()
        return (
            str(claims.get("repository", "")).lower() == self.repository.lower()
            and str(claims.get("job_workflow_ref", "")).lower().startswith(workflow)
            and self.environment.lower() in ("", str(claims.get("environment", "")).lower())
        )


class Tokens:
    """The tokens of one index: `token` for every project, and those minted for trusted publishers."""

    def __init__(self, audience: str, token: str, issuer: Issuer | None) -> None:
        self._audience, self._token, self._issuer = audience, token, issuer
        self.publishers: list[Publisher] = []
        self._minted: dict[str, tuple[float, frozenset[str]]] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def forbidden(self, authorization: str, project: str) -> str:
        """Why an upload to a project is not allowed; "" where it is."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return _BAD_TOKEN
        if scheme.lower() != "basic" or user != "__token__":
            return _BAD_TOKEN
        if token == self._token:
            return ""
        until, projects = self._minted.get(token, (0.0, frozenset[str]()))
        if until < time.time():
            return _BAD_TOKEN
        wrong = f"Invalid API Token: project-scoped token is not valid for project: '{project}'"
        return "" if project in projects else wrong

    def mint(self, body: bytes) -> Reply:
        """A token for the projects that trust the workflow whose id token is handed over."""
        try:
            if not self._issuer:
                raise IdTokenError("no issuer is known")
            claims = self._issuer.verify_id_token(json.loads(body)["token"])
        except (IdTokenError, ValueError, KeyError, TypeError) as error:
            return _no_token("invalid-token", f"malformed or unsigned token ({error})")
        if claims.get("aud") != self._audience or claims.get("exp", 0) < time.time():
            return _no_token("invalid-token", "wrong audience, or expired")
        projects = frozenset(publisher.project for publisher in self.publishers if publisher.fits(claims))
        if not projects:
            why = "valid token, but no corresponding publisher (All lookup strategies exhausted)"
            return _no_token("invalid-publisher", why)
        with self._lock:
            if claims.get("jti") in self._used:
                return _no_token("invalid-reuse-token", "invalid token: already used")
            self._used.add(str(claims.get("jti")))
        token = f"pypi-{secrets.token_urlsafe(32)}"
        self._minted[token] = (time.time() + _TOKEN_LIFE, projects)
        return json_reply({"success": True, "token": token, "expires": int(time.time()) + _TOKEN_LIFE})


def _no_token(code: str, description: str) -> Reply:
    error = {"code": code, "description": description}
    return json_reply({"message": "Token request failed", "errors": [error]}, status=422)
