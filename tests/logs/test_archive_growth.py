"""Sources that grow, shrink, vanish and come back at random, with runs in between.

The model is simpler than the archive: the set of whole lines that any run could see. A whole line
ends in a newline, or is a JSON object at the end of a file.
"""

import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.logs.archive_home import Home

NAMES = ("p/a.jsonl", "p/b.jsonl", "q/a.jsonl", "q/ü x.jsonl")
PIECES = st.lists(
    st.sampled_from([b'{"n": 1}', b'{"n": 2}', b'{"half', b"", b"plain", b'{"deep": {"n": 3}}']),
    max_size=4,
).flatmap(lambda parts: st.sampled_from([b"\n".join(parts), b"\n".join([*parts, b""])]))
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(NAMES), PIECES),
    st.tuples(st.just("write"), st.sampled_from(NAMES), PIECES),
    st.tuples(st.just("cut"), st.sampled_from(NAMES), st.integers(0, 40)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("touch"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("run"), st.none(), st.none()),
)


def whole_part(data: bytes) -> bytes:
    """The bytes up to the end of the last whole line."""
    end = data.rfind(b"\n") + 1
    try:
        last_is_object = isinstance(json.loads(data[end:]), dict)
    except ValueError:
        last_is_object = False
    return data if last_is_object else data[:end]


def change(home, what, name, value):
    path = home.root / name
    if what == "append":
        home.write(name, value, add=True)
    elif what == "write":
        home.write(name, value)
    elif path.exists():
        if what == "delete":
            path.unlink()
        elif what == "cut":
            home.write(name, path.read_bytes()[:value])
        else:
            os.utime(path)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=25))
def test_every_whole_line_that_a_run_saw_is_in_the_archive(steps):
    seen: dict[str, set[bytes]] = {name: set() for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for what, name, value in [*steps, ("run", None, None)]:
            if what != "run":
                change(home, what, name, value)
                continue
            home.keep()
            for one in NAMES:
                path = home.root / one
                whole = whole_part(path.read_bytes()) if path.exists() else b""
                if whole:
                    seen[one] |= set(whole.split(b"\n"))
                    assert home.kept(one) == whole
                contents = [home.kept(one) or b"", *earlier(home, one)]
                held = {line for data in contents for line in data.split(b"\n")}
                # a last line without its newline may have been gone on with
                missing = [x for x in seen[one] - held if not any(y.startswith(x) for y in held)]
                assert missing == []
            assert home.wrong() == []


def earlier(home, name):
    return home.versions(name) if (home.archive / home.place / name).parent.is_dir() else []
