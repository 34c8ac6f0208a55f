"""Pages escape all that is not markup of our own making."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from codetune.page import rendered


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with one template."""
    place = tmp_path / "with_a_template"
    place.mkdir()
    (place / "__init__.py").write_text("")
    (place / "page.html.j2").write_text("<p>{{ text }}</p>")
    monkeypatch.syspath_prepend(tmp_path)
    yield place.name
    sys.modules.pop(place.name, None)


def test_text_is_escaped_and_cleaned_and_markup_is_kept(package: str) -> None:
    text = "<script>\x1b[31m\u202e&"
    assert rendered(package, "page.html.j2", text=text) == "<p>&lt;script&gt;&amp;</p>"
    assert rendered(package, "page.html.j2", text=Markup("<b>x</b>")) == "<p><b>x</b></p>"


def test_a_value_that_is_missing_is_an_error(package: str) -> None:
    with pytest.raises(UndefinedError, match="text"):
        rendered(package, "page.html.j2", words="x")
