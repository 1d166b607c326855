"""The figure of a study shows differences as large as they are."""

import pytest
from matplotlib.figure import Figure

from hf_lrcompress.figures.maker import write_figure
from hf_lrcompress.figures.of_studies import Panel, _paint_study


def test_dollars_in_a_name_are_no_mathematics(tmp_path):
    """Matplotlib would end by `\\half`, which is none."""
    write_figure(tmp_path / "a.png", lambda axes: axes.set_title(r"What is $_kept$ for $\half$?"))
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_long_axis_has_plain_numbers():
    """Powers of ten would be written as mathematics, which is not read as such."""
    figure = Figure()
    lines = {"a": {place: [1.0] for place in (2, 4, 8, 16, 32, 64, 128, 256, 512)}}
    _paint_study("How large?", [Panel("size", "score", lines)], figure.subplots())
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "100" in labels and not any("$" in label for label in labels)


@pytest.mark.parametrize(("values", "shown"), [((28.6, 29.0), (23.8, 33.8)), ((10.0, 50.0), (8.0, 52.0))])
def test_a_difference_of_chance_does_not_fill_a_panel(values, shown):
    axes = Figure().subplots()
    lines = {"a": dict(zip((2, 8), ([value] for value in values), strict=True))}
    _paint_study("How large?", [Panel("size", "score", lines, least_span=10)], axes)
    assert axes.get_ylim() == pytest.approx(shown)
