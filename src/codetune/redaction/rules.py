"""The secret rules: one row a kind, each with what it must find and what it must leave alone.

Patterns are RE2 (linear time on any input) and are written from the vendors' public token
formats. The capturing group is the value to replace; `keywords` (lower case) say cheaply that a
text cannot match. `check` settles what a pattern cannot say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import re2

from codetune.redaction.guess import is_credential, is_password, is_random_token, is_real_value

# Where a token may begin: an escaped line end of JSON inside JSON ends with a letter.
_START = r"(?:^|[^A-Za-z0-9_]|\\[nrt])"
# What may stand between two base64 lines of a key: line ends (also escaped ones), the line
# numbers of a file viewer, quotes and string concatenation.
_GAP = r"(?:\\[nrt]|[\s\d→|\"'+,>*])"
_KEY = r"PRIVATE KEY(?: BLOCK)?-----"
_KEY_BLOCK = (
    rf"(-----BEGIN [A-Z0-9 ]{{0,40}}{_KEY}"
    rf"(?:{_GAP}*[A-Za-z-]+: [^\n]*\n)*(?:{_GAP}*[A-Za-z0-9+/=]{{16,}})+"
    rf"(?:(?:{_GAP}*[A-Za-z0-9+/=]{{1,15}})?{_GAP}*-----END [A-Z0-9 ]{{0,40}}{_KEY})?)"
)
_KEY_TAIL = rf"((?:[A-Za-z0-9+/=]{{16,}}{_GAP}+)+(?:[A-Za-z0-9+/=]{{1,15}}{_GAP}+)?"
_KEY_TAIL += rf"-----END [A-Z0-9 ]{{0,40}}{_KEY})"

# The names of what holds a value; `pass` alone is too common a word to be read before a colon.
_PASSWORDS = r"[A-Za-z0-9_.-]{0,60}(?:passwords?|passwd|passphrase|pwd)"
_PASS_WORD = r"(?:[A-Za-z0-9]{1,40}[_.-])?pass"  # noqa: S105 - the name of a secret, not one
_TOKENS = (
    r"(?:secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|encryption[_-]?key"
    r"|signing[_-]?key|account[_-]?key|credentials?)(?:[_-][A-Za-z0-9]{1,20}){0,3}"
)
# `NAME: "value"`, `"name": "value"`, `name="value"`; the bare form of .env files and flags; YAML.
_QUOTED = r"\\?[\"']?\s{0,4}(?::=|=>|=|:)\s{0,4}\\?[\"']([^\"'\s\\]{6,200})\\?[\"']"
_PLAIN = r"([^\s\"'`,;(){}\[\]<>\\]{6,200})"
_VALUE = rf"(?:{_QUOTED}|(?:=|: {{1,3}}){_PLAIN})"


@dataclass(frozen=True)
class Rule:
    """One kind of secret. `finds` and `ignores` are its examples; the tests run them all."""

    name: str
    pattern: str
    keywords: tuple[str, ...]
    finds: tuple[str, ...]
    ignores: tuple[str, ...] = ()
    check: Callable[[str], bool] = is_real_value

    @cached_property
    def compiled(self) -> Any:
        """The RE2 program; compiled at first use."""
        options = re2.Options()
        options.max_mem = 64 << 20
        return re2.compile(self.pattern, options)


def _prefixed(
    name: str, prefix: str, body: str, example: str, ignores: tuple[str, ...] = ()
) -> Rule:
    """A vendor token: a literal `prefix` and a `body`; `example` is a body that is found.

    The example is kept apart from its prefix so that this file holds no whole token.
    """
    pattern = rf"{_START}({re2.escape(prefix)}{body})"
    return Rule(name, pattern, (prefix.lower(),), (prefix + example,), (prefix, *ignores))


_MIX = "q7Xb2Lm9Zk4Tn8Rv3Wc6Yd1Hf5Jg0PsAeUiOyQ2xM7"
_HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

VENDOR_RULES = (
    _prefixed("github_token", "ghp_", r"[A-Za-z0-9]{36,}", _MIX[:36], ("ghp_short",)),
    _prefixed("github_token", "gho_", r"[A-Za-z0-9]{36,}", _MIX[:36]),
    _prefixed("github_token", "ghu_", r"[A-Za-z0-9]{36,}", _MIX[:36]),
    _prefixed("github_token", "ghs_", r"[A-Za-z0-9]{36,}", _MIX[:36]),
    _prefixed("github_token", "ghr_", r"[A-Za-z0-9]{36,}", _MIX[:36]),
    _prefixed("github_token", "github_pat_", r"[A-Za-z0-9_]{50,}", _MIX + "_" + _MIX),
    _prefixed("gitlab_token", "glpat-", r"[A-Za-z0-9_.-]{20,}", _MIX[:20]),
    _prefixed("gitlab_token", "glrt-", r"[A-Za-z0-9_.-]{20,}", _MIX[:20]),
    _prefixed("gitlab_token", "gldt-", r"[A-Za-z0-9_.-]{20,}", _MIX[:20]),
    _prefixed("anthropic_key", "sk-ant-", r"[A-Za-z0-9]+-[A-Za-z0-9_-]{20,}", "api03-" + _MIX),
    _prefixed("openai_key", "sk-proj-", r"[A-Za-z0-9_-]{20,}", _MIX, ("sk-project-list",)),
    _prefixed("openai_key", "sk-svcacct-", r"[A-Za-z0-9_-]{20,}", _MIX),
    _prefixed("openai_key", "sk-or-v1-", r"[a-f0-9]{40,}", _HEX),
    _prefixed("openai_key", "sk-", r"[A-Za-z0-9]{32,64}\b", _MIX[:40], ("task-" + "a" * 40,)),
    _prefixed("google_key", "AIza", r"[A-Za-z0-9_-]{35}", _MIX[:35]),
    _prefixed("google_key", "GOCSPX-", r"[A-Za-z0-9_-]{24,}", _MIX[:28]),
    _prefixed("google_key", "ya29.", r"[A-Za-z0-9_-]{30,}", _MIX),
    _prefixed("huggingface_token", "hf_", r"[A-Za-z0-9]{30,}", _MIX[:34], ("hf_hub_download",)),
    _prefixed("slack_token", "xoxb-", r"[A-Za-z0-9-]{10,}", "1234567890-" + _MIX[:24]),
    _prefixed("slack_token", "xoxp-", r"[A-Za-z0-9-]{10,}", "1234567890-" + _MIX[:24]),
    _prefixed("slack_token", "xapp-", r"[A-Za-z0-9-]{20,}", "1-A0123-" + _MIX[:24]),
    _prefixed("stripe_key", "sk_live_", r"[A-Za-z0-9]{16,}", _MIX[:24]),
    _prefixed("stripe_key", "sk_test_", r"[A-Za-z0-9]{16,}", _MIX[:24]),
    _prefixed("stripe_key", "rk_live_", r"[A-Za-z0-9]{16,}", _MIX[:24]),
    _prefixed("stripe_key", "whsec_", r"[A-Za-z0-9+/=]{24,}", _MIX[:32]),
    _prefixed("npm_token", "npm_", r"[A-Za-z0-9]{36}", _MIX[:36], ("npm_config_registry",)),
    _prefixed("pypi_token", "pypi-AgE", r"[A-Za-z0-9_-]{50,}", _MIX + _MIX),
    _prefixed("docker_token", "dckr_pat_", r"[A-Za-z0-9_-]{20,}", _MIX[:27]),
    _prefixed("digitalocean_token", "dop_v1_", r"[a-f0-9]{64}", _HEX),
    _prefixed("sendgrid_key", "SG.", r"[\w-]{16,32}\.[\w-]{32,64}", _MIX[:22] + "." + _MIX),
    _prefixed("databricks_token", "dapi", r"[a-f0-9]{32}\b", _HEX[:32]),
    _prefixed("shopify_token", "shpat_", r"[a-fA-F0-9]{32}", _HEX[:32]),
    _prefixed("vault_token", "hvs.", r"[A-Za-z0-9_-]{24,}", _MIX),
    _prefixed("linear_key", "lin_api_", r"[A-Za-z0-9]{32,}", _MIX),
    _prefixed("notion_token", "ntn_", r"[A-Za-z0-9]{40,}", _MIX),
    _prefixed("groq_key", "gsk_", r"[A-Za-z0-9]{40,}", _MIX),
    _prefixed("replicate_token", "r8_", r"[A-Za-z0-9]{30,}", _MIX[:37]),
    _prefixed("grafana_token", "glsa_", r"[A-Za-z0-9_]{32,}", _MIX),
    _prefixed("supabase_token", "sbp_", r"[a-f0-9]{40}", _HEX[:40]),
    _prefixed("postman_key", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}", _HEX[:24] + "-" + _HEX[:34]),
    _prefixed("age_key", "AGE-SECRET-KEY-1", r"[0-9A-Z]{58}", "QPZRY9X8GF2TVDW0" * 4),
)  # fmt: skip

FORM_RULES = (
    Rule(
        "private_key",
        f"{_KEY_BLOCK}|{_KEY_TAIL}",
        ("private key",),
        (
            "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEowIBAAKCAQEA7bq\nq1==\n-----END RSA PRIVATE "
            "KEY-----",
            "-----BEGIN OPENSSH PRIVATE " + "KEY-----\\nb3BlbnNzaC1rZXktdjEAAAAA\\n",
            "     7→MIIEowIBAAKCAQEA7bqZk4Tn8\n     8→-----END PRIVATE " + "KEY-----",
        ),
        ('if "-----BEGIN PRIVATE ' + 'KEY-----" in text:\n    return True',),
        check=bool,
    ),
    Rule(
        "aws_access_key",
        rf"{_START}((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{{16}})(?:$|[^A-Za-z0-9_])",
        ("akia", "asia", "abia", "acca"),
        ("AKIA" + "Q3EGRLZ5MWTK7XYP",),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA", "XAKIAQ3EGRLZ5MWTK7XYPX"),
    ),
    Rule(
        "json_web_token",
        rf"{_START}(eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{10,}}\.[A-Za-z0-9_-]{{10,}})",
        ("eyj",),
        ("eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",),
        ("eyJhbGciOiJIUzI1NiJ9 alone is only a header",),
    ),
    Rule(
        "telegram_token",
        rf"{_START}(\d{{8,10}}:AA[A-Za-z0-9_-]{{33}})",
        (":aa",),
        ("123456789:" + "AAF" + _MIX[:32],),
        ("10:AA in a table",),
    ),
    Rule(
        "webhook_url",
        r"(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/([A-Za-z0-9_/-]{30,})",
        ("hooks.slack.com/services", "/api/webhooks/"),
        ("https://hooks.slack.com/services/" + "T0AB12CD3/B0EF45GH6/" + _MIX[:24],),
        ("https://hooks.slack.com/services/T000/B000/XXXX",),
    ),
    Rule(
        "storage_key",
        r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,}={0,2})",
        ("accountkey=", "sharedaccesskey="),
        ("AccountName=x;AccountKey=" + _MIX + _MIX + "==;",),
        ("AccountKey=<key>;",),
    ),
    Rule(
        "url_password",
        r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>`]{0,80}:([^\s/@\"'<>`]{3,120})@[\w\[]",
        ("://",),
        ("postgresql://app:" + "vN8kq2Lw@db.internal/app", "https://x:" + _MIX + "@git.host/r"),
        (
            "postgresql://postgres:postgres@localhost/db",
            "https://user:password@host/",
            "postgres://app:${DB_PASSWORD}@db/app",
            "http://localhost:8000/@scope/pkg",
        ),
    ),
    Rule(
        "bearer_token",
        r"(?i)(?:bearer|authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:basic|token))\s+"
        r"([A-Za-z0-9._~+/=-]{16,})",
        ("bearer", "authorization"),
        ("Authorization: Bearer " + _MIX[:32], "authorization: Basic " + "dXNlcjpwYXNzd29yZA=="),
        ("Authorization: Bearer $TOKEN", "the bearer authentication-scheme-name", "Bearer <token>"),
        check=is_credential,
    ),
    Rule(
        "curl_password",
        r"curl\b[^\n]{0,300}\s(?:-u|--user)\s{0,2}[\"']?[^\s:\"']{1,60}:([^\s\"']{5,120})",
        ("curl",),
        ("curl -s -u deploy:" + "Kq82-vLw9x https://host/api",),
        ("curl -u user:password https://host", "curl -u $USER:$PASS https://host"),
    ),
    Rule(
        "password",
        rf"(?i)(?:^|[^A-Za-z0-9]|\\[nrt])(?:{_PASSWORDS}{_VALUE}|{_PASS_WORD}(?:{_QUOTED}|={_PLAIN}))",
        ("pass", "pwd"),
        (
            'DB_PASSWORD="' + 'vN8!kq2Lw"',
            '"password": "' + 'Tr0ub4dor&3x"',
            "  db_password: " + "vN8kq2Lw9x",
            "PGPASSWORD=" + "vN8kq2Lw9x psql",
            "--password=" + "m4Qz-77pLk",
            'password: "' + 'correct-horse-battery-7"',
        ),
        (
            'password = "password"',
            "password=os.environ",
            'password = "changeme123"',
            'password: "********"',
            "PASSWORD=${DB_PASSWORD}",
            "password=self.password",
            'getpass("Password: ")',
            'pass = "test_user_login"',
            "pass: string",
            "--- PASS: TestTruncateAt/case_7 (0.00s)",
        ),
        check=is_password,
    ),
    Rule(
        "assigned_token",
        rf"(?i){_TOKENS}{_VALUE}",
        ("secret", "token", "key", "credential"),
        (
            'API_KEY = "' + _MIX[:24] + '"',
            "client_secret: '" + _MIX[:30] + "'",
            "AWS_SECRET_ACCESS_KEY=" + "wJ4lrXUtnF3MI/K7MDENG/bPxRfiCYz8Qk1LpTvN",
            '\\"access_token\\": \\"' + _MIX[:28] + '\\"',
        ),
        (
            'pad_token = "<|endoftext|>"',
            "token = tokenizer.eos_token",
            'api_key="your-api-key-here-12345678"',
            "max_tokens=1024000000000000",
            "token_count: 1234567890123456",
            'key = "session_id"',
            "secret_key: str",
            "client_secret: env.AUTH0_CLIENT_SECRET,",
            'tokens = "input_ids_attention_mask_v2"',
            "SECRET_KEY=$(openssl rand -hex 32)",
        ),
        check=is_random_token,
    ),
)  # fmt: skip

RULES = (*VENDOR_RULES, *FORM_RULES)
