"""The issuer of a job's identity tokens: signed as GitHub signs them, verified by whoever trusts it."""

from __future__ import annotations

import base64
import json
import secrets
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ISSUER = "https://token.actions.githubusercontent.com"

LIFETIME = 300
"""Seconds for which a token is good, as on GitHub."""


class IdTokenError(Exception):
    """A token that this issuer has not signed, or that is no longer good."""


class Issuer:
    """Signs JWTs by a key of its own (RS256); needs `cryptography`."""

    def __init__(self) -> None:
        self._key_id = secrets.token_hex(8)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, and the issuer's own."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 only a rehearsal needs it
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415

        moment = int(time.time())
        times = {"iat": moment, "nbf": moment - 5, "exp": moment + LIFETIME}
        payload = {"iss": ISSUER, "jti": secrets.token_hex(16), **times, **claims}
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, payload))
        return f"{text}.{_encoded(self._key.sign(text.encode(), PKCS1v15(), hashes.SHA256()))}"

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token of ours; raises IdTokenError. The audience is the caller's to compare."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 only a rehearsal needs it
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415

        try:
            text, _, signature = token.rpartition(".")
            head, payload = (json.loads(_decoded(part)) for part in text.split("."))
            public = self._key.public_key()
            public.verify(_decoded(signature), text.encode(), PKCS1v15(), hashes.SHA256())
        except (ValueError, InvalidSignature) as e:
            raise IdTokenError("the token is not signed by this issuer") from e
        if head.get("alg") != "RS256" or payload.get("iss") != ISSUER:
            raise IdTokenError("the token is not of this issuer")
        if not payload["nbf"] <= time.time() < payload["exp"]:
            raise IdTokenError("the token has expired")
        return dict(payload)

    @cached_property
    def _key(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 only a rehearsal needs it

        return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def subject(repository: str, ref: str, environment: str, event: str) -> str:
    """GitHub's default `sub`: the environment where the job has one, else the pull request or the ref."""
    if environment:
        return f"repo:{repository}:environment:{environment}"
    return f"repo:{repository}:pull_request" if event == "pull_request" else f"repo:{repository}:ref:{ref}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
