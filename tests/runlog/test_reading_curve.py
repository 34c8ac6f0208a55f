"""Curves in characters: what is drawn where, and that nothing breaks the drawing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from codetune.runlog.reading.curve import plotted
from codetune.runlog.reading.points import Bucket, Curve


def curve(*points: tuple[int, float]) -> Curve:
    return tuple(Bucket(step, value, value, value) for step, value in points)


def lines(curves: dict[str, Curve], width: int = 28, height: int = 5) -> list[str]:
    return [line.plain for line in plotted(curves, width, height)]


def test_a_curve_falls_from_the_upper_left_to_the_lower_right() -> None:
    shown = lines({"loss": curve(*((step, float(100 - step)) for step in range(101)))})
    assert len(shown) == 8
    body = [line.partition("|")[2] for line in shown[:5]]
    assert body[0].index("*") == 0
    assert body[-1].rindex("*") == 22
    firsts = [line.index("*") for line in body]
    assert firsts == sorted(firsts)
    assert [line.partition("|")[0].strip() for line in shown[:5]] == ["100", "", "", "", "0"]
    assert shown[6].split() == ["0", "100"]
    assert shown[7].split() == ["*", "loss"]


def test_a_flat_curve_is_one_line() -> None:
    shown = lines({"x": curve((0, 1.0), (10, 1.0))}, width=15, height=3)
    assert [line.count("*") for line in shown[:3]] == [0, 2, 0]


def test_nothing_is_drawn_of_nothing() -> None:
    assert plotted({}, 80) == []
    assert plotted({"loss": ()}, 80) == []


def test_two_curves_have_marks_and_colours_of_their_own_and_the_later_is_on_top() -> None:
    train, held_out = curve((0, 2.0), (5, 1.5), (10, 1.0)), curve((0, 2.0), (10, 0.0))
    drawn = plotted({"train_loss": train, "eval_loss": held_out}, 30, 5)
    text = "\n".join(line.plain for line in drawn)
    assert text.count("o") - text.count("loss") == 3  # two points, and the legend
    assert drawn[-1].plain.split() == [".", "train_loss", "o", "eval_loss"]
    assert drawn[0].plain.endswith("|o")  # both are there
    colours = {str(span.style) for line in drawn for span in line.spans}
    assert {"cyan", "yellow"} <= colours


def test_eight_curves_can_be_told_apart() -> None:
    curves = {f"run {n}": curve((0, float(n)), (1, float(n))) for n in range(8)}
    legend = lines(curves, width=120)[-1]
    marks = [word for word in legend.split() if len(word) == 1 and not word.isdigit()]
    assert len(set(marks)) == 8


def test_a_spike_inside_a_bucket_is_seen() -> None:
    buckets = tuple(Bucket(n, 1.0, 1.01, 9.0 if n == 5 else 1.0) for n in range(11))
    shown = lines({"loss": buckets}, width=17, height=6)
    column = {line.index("|") + 1 + line.partition("|")[2].index("*") for line in shown[:5]}
    assert len(column) == 1
    assert shown[5].count("*") == 11


def test_a_name_in_the_legend_is_harmless() -> None:
    legend = lines({"\x1b[2J[bold]a\nb": curve((0, 1.0), (1, 2.0))})[-1]
    assert legend.split() == ["*", "[bold]a", "b"]


finite = st.floats(allow_nan=False, allow_infinity=False)


point = st.tuples(st.integers(-(2**62), 2**62), finite, finite)


@given(
    points=st.lists(point, min_size=1, max_size=20),
    width=st.integers(1, 200),
    height=st.integers(2, 20),
)
def test_any_finite_numbers_can_be_drawn(
    points: list[tuple[int, float, float]], width: int, height: int
) -> None:
    buckets = tuple(
        Bucket(step, min(a, b), a / 2 + b / 2, max(a, b)) for step, a, b in sorted(points)
    )
    shown = [line.plain for line in plotted({"m": buckets}, width, height)]
    assert len(shown) == height + 3
    assert sum(line.count("*") for line in shown[:height]) >= 1
    ends = (max(b.high for b in buckets), min(b.low for b in buckets))
    side = max(len(f"{end:.4g}") for end in ends)
    assert all(len(line) <= max(width, side + 12) for line in shown[: height + 1])
