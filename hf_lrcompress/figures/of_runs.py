"""Figures of models: what each stage leaves, a training, scores on tasks, a vocabulary."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from hf_lrcompress.evaluation.judging import partly_notice, shortened_notice
from hf_lrcompress.evaluation.tables import MAJORITY, UNDISTILLED, baseline_rows, capacity_averages
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.figures.maker import write_figure
from hf_lrcompress.tables import MEASURES, STAGE_COLUMNS
from hf_lrcompress.vocabulary.certificate import VocabularyCertificate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]


def plot_stages(stages: Sequence[Row], path: Path) -> None:
    """Write a figure of every stage: its parameters as a bar and, beside it, what it has kept of the teacher.

    Args:
        stages (`Sequence[Mapping]`): The report's rows, one a stage.
        path (`Path`): The file.
    """
    write_figure(path, partial(_paint_stages, stages), columns=2, height=1 + 0.4 * len(stages))


def plot_training(history: Sequence[Row], path: Path) -> None:
    """Write a figure of a training: its losses by step, each as it was logged.

    Args:
        history (`Sequence[Mapping]`): `state.log_history` of a Trainer. With fewer than two losses nothing is drawn.
        path (`Path`): The file.
    """
    logged = [row for row in history if "loss" in row]
    if len(logged) > 1:
        write_figure(path, partial(_paint_training, logged))


def plot_scores(scores: Sequence[Row], efficiency: Sequence[Row], path: Path) -> None:
    """Write a figure of scores, from the largest model to the smallest: a line a task, and dashed what guessing gives.

    The title says what was shortened.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`]. Of a single model nothing is drawn.
        efficiency (`Sequence[Mapping]`): Rows of [`measure_efficiency`], one a model.
        path (`Path`): The file.
    """
    models = sorted(efficiency, key=lambda row: -row["size_mb"])
    if len(models) > 1:
        write_figure(path, partial(_paint_scores, scores, models))


def plot_capacity(capacity: Sequence[Row], path: Path) -> None:
    """Write a figure of the average score against the adapters' reduction factor, a line a model.

    Args:
        capacity (`Sequence[Mapping]`): Rows of [`score_factors`].
        path (`Path`): The file.
    """
    write_figure(path, partial(_paint_capacity, capacity))


def plot_vocabulary(certificate: VocabularyCertificate, path: Path) -> None:
    """Write a figure of what other vocabulary sizes would give, with a line at the chosen one.

    Args:
        certificate ([`VocabularyCertificate`]): Without a curve nothing is drawn.
        path (`Path`): The file.
    """
    if certificate.curve:
        write_figure(path, partial(_paint_vocabulary, certificate))


def _paint_stages(stages: Sequence[Row], left: "Axes", right: "Axes") -> None:
    places = range(len(stages))
    millions = [row["parameters"] / 1e6 for row in stages]
    bars = left.barh(places, millions, color="C7")
    left.bar_label(bars, [f"{value:.1f}" for value in millions], padding=3)
    left.set(yticks=places, yticklabels=[row["stage"] for row in stages], xlabel="parameters (millions)")
    left.margins(x=0.2)  # room for the numbers
    for key in MEASURES:
        measured = [place for place in places if stages[place].get(key) is not None]
        if measured:
            right.plot([stages[place][key] for place in measured], measured, marker="o", label=STAGE_COLUMNS[key][0])
    right.set(yticks=places, yticklabels=[], xlim=(0, 1.05), xlabel="similarity (1 is the teacher's), accuracy")
    right.grid(axis="x", alpha=0.4)
    right.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1))
    for axes in (left, right):
        axes.set_ylim(len(stages) - 0.5, -0.5)  # the teacher on top


def _paint_training(logged: Sequence[Row], axes: "Axes") -> None:
    for name in [key for key in logged[0] if key.endswith("loss")]:
        rows = [row for row in logged if name in row]
        width = 2 if name == "loss" else 1
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], label=name, linewidth=width)
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    axes.grid(which="both", alpha=0.3)
    _legend_beside(axes)


def _paint_scores(scores: Sequence[Row], models: Sequence[Row], axes: "Axes") -> None:
    place_of = {row["model"]: place for place, row in enumerate(models)}
    for name in TASKS:
        rows = sorted((row for row in scores if row["task"] == name), key=lambda row: place_of[row["model"]])
        if rows:
            _paint_task(axes, name, rows, place_of)
    labels = [f"{row['model']}\n{row['size_mb']:.0f} MB" for row in models]
    axes.set_xticks(range(len(models)), labels, rotation=25, ha="right", rotation_mode="anchor")  # names can be long
    axes.set(ylim=(0, 100), ylabel="score × 100")
    if baseline_rows(scores):
        axes.plot([], [], color="grey", linestyle="--", linewidth=1, label=MAJORITY)
    if UNDISTILLED in place_of:
        axes.plot([], [], color="grey", marker="x", linestyle="", label=UNDISTILLED)
    axes.grid(axis="y", alpha=0.4)
    _title_and_legend(axes, scores)


def _paint_task(axes: "Axes", name: str, rows: Sequence[Row], place_of: Mapping[str, int]) -> None:
    """A line through a task's scores, a cross for surgery alone, dashed the baseline, and of classes of words the accuracy."""
    title = name.upper()
    compressed = [row for row in rows if row["model"] != UNDISTILLED]
    x = [place_of[row["model"]] for row in compressed]
    deviations = [100 * row["std"] for row in compressed]
    line = axes.errorbar(x, [100 * row["mean"] for row in compressed], yerr=deviations, marker="o", capsize=3)
    line[0].set_label(title)
    color = line[0].get_color()
    alone = [100 * row["mean"] for row in rows if row["model"] == UNDISTILLED]
    axes.plot([place_of[UNDISTILLED] for _ in alone], alone, marker="x", linestyle="", color=color)
    for baseline in baseline_rows(rows):
        axes.axhline(100 * baseline["mean"], color=color, linestyle="--", linewidth=1)
    if TASKS[name].classes_of_words:
        axes.plot(x, [100 * row["extra"]["accuracy"] for row in compressed], ".:", color=color, label=f"{title} accuracy")


def _paint_capacity(capacity: Sequence[Row], axes: "Axes") -> None:
    for model, of_factors in capacity_averages(capacity).items():
        axes.plot(list(of_factors), list(of_factors.values()), marker="o", label=model)
    factors = sorted({row["reduction_factor"] for row in capacity})
    axes.set_xscale("log", base=2)
    axes.set_xticks(factors, [str(factor) for factor in factors])
    axes.set(xlabel="reduction factor of the adapters", ylabel="average score × 100")
    _title_and_legend(axes, capacity)


def _title_and_legend(axes: "Axes", scores: Sequence[Row]) -> None:
    """Say above how the trainings fell short of the paper's and of their tasks, and name the lines beside them."""
    notice = " ".join(filter(None, (shortened_notice(scores), partly_notice(scores))))
    if notice:
        axes.set_title("\n".join(wrap(notice, 90)), fontsize="small")
    _legend_beside(axes)


def _legend_beside(axes: "Axes") -> None:
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _paint_vocabulary(certificate: VocabularyCertificate, left: "Axes") -> None:
    right = left.twinx()
    sizes = [point.vocab_size for point in certificate.curve]
    (covered,) = left.plot(sizes, [100 * point.coverage for point in certificate.curve], "o-", label="tokens covered, %")
    per_word = [point.tokens_per_word for point in certificate.curve]
    (length,) = right.plot(sizes, per_word, "s--", color="C1", label="tokens per word")
    right.axhline(certificate.untrimmed_tokens_per_word, color="C1", linewidth=0.5)
    left.axvline(certificate.vocab_size, color="grey", linewidth=0.5)
    left.set(xscale="log", xlabel="vocabulary size", ylabel="tokens covered, %")
    left.set(xticks=sizes, xticklabels=[f"{size:,}" for size in sizes])
    left.minorticks_off()
    right.set_ylabel("tokens per word of held-out text")
    left.legend(handles=[covered, length], loc="center right")
