import time

import pytest

from codetune.redaction import find_secrets
from codetune.redaction.guess import entropy, is_password, is_random_token, is_real_value
from codetune.redaction.rules import RULES

FINDS = [(rule, text) for rule in RULES for text in rule.finds]
IGNORES = [(rule, text) for rule in RULES for text in rule.ignores]
# The frames in which a secret stands in a log: prose, code, JSON inside JSON, a diff, a listing.
FRAMES = (
    "{}",
    "the value is\n{}\nand nothing else",
    "x = 1; {} # set above",
    '{{"text": "before\\n{}\\nafter"}}',
    "+{}",
    "    12→{}",
    "{},",
    "({})",
)


def named(case):
    rule, text = case
    return f"{rule.name}-{sum(map(ord, text)) % 1000}"


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("case", FINDS, ids=named)
def test_each_rule_finds_its_examples_in_each_frame(case, frame):
    rule, text = case
    assert find_secrets(frame.format(text)), f"{rule.name} is blind in {frame!r}"


@pytest.mark.parametrize("case", FINDS, ids=named)
def test_the_rule_itself_finds_its_examples(case):
    rule, text = case
    assert rule.compiled.search(text), "another rule may have found it"
    assert any(word in text.lower() for word in rule.keywords), "the keywords would hide it"


@pytest.mark.parametrize("case", IGNORES, ids=named)
def test_each_rule_ignores_its_counterexamples(case):
    _, text = case
    assert find_secrets(text) == []


def test_every_rule_has_examples_and_lower_case_keywords():
    for rule in RULES:
        assert rule.finds and rule.keywords
        assert all(word == word.lower() for word in rule.keywords)


def test_the_whole_value_is_covered_and_no_more():
    secret = "q7Xb2Lm9Zk4Tn8Rv3Wc6Yd1H"
    text = f"API_KEY = '{secret}'  # keep\nTOKEN: \"{secret}x\"\n"
    assert [text[f.start : f.end] for f in find_secrets(text)] == [secret, secret + "x"]


def test_a_key_block_is_found_with_both_ends_one_end_or_none():
    body = "\n".join("MIIEowIBAAKCAQEA7bqZk4Tn8Rv3Wc6Yd1H" for _ in range(4))
    head, tail = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
    for text in (f"{head}\n{body}\n{tail}", f"{head}\n{body}", f"{body}\n{tail}"):
        (hit,) = find_secrets(f"cat key\n{text}\nthe end of the file")
        found = f"cat key\n{text}\nthe end of the file"[hit.start : hit.end]
        assert "MIIE" not in f"cat key\n{text}\n".replace(found, "")
        assert "the end" not in found


def test_findings_do_not_overlap_and_come_in_order():
    text = "Authorization: Bearer eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0NTY3.dozjgNryP4J3jVmNHl0w\n" * 3
    found = find_secrets(text)
    assert len(found) == 3
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))


def test_a_finding_does_not_hold_the_value():
    (hit,) = find_secrets('DB_PASSWORD="vN8!kq2Lw"')
    assert "vN8" not in repr(hit)


@pytest.mark.parametrize(
    "text",
    [
        "3f786850e387550fdab836ed7e6dc881de23001b",
        "550e8400-e29b-41d4-a716-446655440000",
        'integrity sha512-z5Xk2mQ9vLp8Rt7Nw4Yb6Hc3Jd1Fg0Sa"',
        "toolu_01UqbuJUjp2ocJRtbSnqSMA4",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0",
        "def authenticate(token: str, password: str) -> bool:",
        "assert user.password == form.password",
        "tokens_per_second: 123.456789",
        "key = lambda item: item.seconds",
        "--- PASS: TestPassword/case_12 (0.00s)",
        "eval_tokens=1_048_576",
        "https://host.example/path?page=2#token=none",
    ],
)
def test_what_looks_like_a_secret_and_is_none(text):
    assert find_secrets(text) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("unit", ["a", "A1", "://a:", '"', "-----BEGIN ", "key=", "pass: ", " \t"])
def test_a_rule_takes_linear_time(rule, unit):
    text = (rule.keywords[0] + unit) + unit * (200_000 // len(unit))
    started = time.process_time()
    sum(1 for _ in rule.compiled.finditer(text))
    assert time.process_time() - started < 1.0


def test_guesses():
    assert entropy("aaaa") == 0 and entropy("abcd") == 2
    assert (
        is_password("Tr0ub4dor&3") and not is_password("password1") and not is_password("my_value")
    )
    assert is_random_token("q7Xb2Lm9Zk4Tn8Rv") and not is_random_token("session_token_v2")
    assert not is_real_value("${TOKEN}") and not is_real_value("<token>")
