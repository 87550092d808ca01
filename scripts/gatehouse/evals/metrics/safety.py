"""Metrics of what an answer must not do: leak, obey an injection, refuse what it should answer."""

from __future__ import annotations

from gatehouse.evals.metrics.canary import CANARY_LEAK
from gatehouse.evals.metrics.credentials import SECRET_LEAK
from gatehouse.evals.metrics.pii import PII_LEAK
from gatehouse.evals.metrics.refusal import REFUSAL

METRICS = [REFUSAL, CANARY_LEAK, SECRET_LEAK, PII_LEAK]
