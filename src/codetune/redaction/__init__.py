"""Secrets and personal data replaced before anything is written.

Values are never printed or logged; counts per rule are. Nobody can promise to find all of them.
"""

from codetune.redaction.identity import Identity, learn
from codetune.redaction.rows import redact_row, redact_text
from codetune.redaction.secrets import Finding, find_secrets

__all__ = ["Finding", "Identity", "find_secrets", "learn", "redact_row", "redact_text"]
