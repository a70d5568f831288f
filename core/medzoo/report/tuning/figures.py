"""The figures of a tuning: scores in the order of the search, and by the values of each lever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from medzoo.report.experiment.figures import metric_label
from medzoo.report.figures import (
    BLUE,
    GREEN,
    INK,
    MARKERS,
    SERIES,
    RenderedFigure,
    legend_height,
    render_figure,
    shorten,
    style,
    subplots,
    wrap,
)
from medzoo.report.formatting import format_score
from medzoo.report.tuning.levers import LeverValue
from medzoo.report.tuning.text import search_control, trial_name
from medzoo.tuning.results import TuningResult

_SPREAD = 0.3  # of the dots of a row, around its middle
_STEPS = 7  # places over which they are spread, by the number of their trial


def search_figure(result: TuningResult) -> RenderedFigure:
    """Plot the score of each policy by its number, the best so far, and the controls. There is at least one trial."""
    label, best = metric_label(result.metric), result.best
    assert best is not None
    with style():
        pools = list(dict.fromkeys(str(trial.params.get("pool", "")) for trial in result.trials))
        entries = len(pools) + 2 + bool(result.baselines)
        figure, (axes,) = subplots([3.1 + legend_height(entries, 2)])
        for index, pool in enumerate(pools):
            own = [trial for trial in result.trials if str(trial.params.get("pool", "")) == pool]
            axes.plot(
                [trial.number for trial in own],
                [trial.score for trial in own],
                MARKERS[index % len(MARKERS)],
                color=SERIES[index % len(SERIES)],
                markersize=3.5,
                alpha=0.75,
                label=shorten(pool or "policies", 24),
            )
        highest, line = float("-inf"), []
        for trial in result.trials:
            highest = max(highest, trial.score)
            line.append(highest)
        axes.step([trial.number for trial in result.trials], line, where="post", color=INK, label="best so far")
        chosen = next((trial for trial in result.trials if trial.number == result.winner), best)
        ring = "best policy" if result.winner is None else "winner of the finalists"
        axes.plot(chosen.number, chosen.score, "o", color=INK, markersize=9, markerfacecolor="none", label=ring)
        for place, score in enumerate(sorted(result.baselines.values())):
            top = place == len(result.baselines) - 1
            axes.axhline(score, color=INK, linestyle="--", linewidth=1.2 if top else 0.6)
        if result.baselines:
            axes.plot([], [], "--", color=INK, linewidth=1.2, label="controls, the best bold")
        axes.set_title(wrap(f"{label[0].upper()}{label[1:]} of each policy of the search"))
        axes.set_xlabel("number of the policy")
        axes.set_ylabel(label)
        axes.grid()
        figure.legend(loc="outside lower center", ncols=2)
        controls = ", ".join(f"{name} {format_score(score)}" for name, score in result.baselines.items())
        alt = (
            f"{label[0].upper()}{label[1:]} of {len(result.trials)} policies in the order of the search: the best, "
            f"number {best.number} ({trial_name(best)}), has {format_score(best.score)}; the controls have {controls}."
        )
        return render_figure(figure, alt)


def lever_figure(result: TuningResult, levers: Mapping[str, Sequence[LeverValue]]) -> RenderedFigure:
    """Plot a panel per lever with a row per value: a dot for each policy that has it, and a line at their median."""
    control, label = search_control(result), metric_label(result.metric)
    with style():
        heights = [0.46 + 0.27 * len(rows) for rows in levers.values()]
        heights[-1] += 0.35
        figure, panels = subplots(heights)
        scores = [trial.score for trial in result.trials] + ([control[1]] if control else [])
        margin = 0.06 * ((max(scores) - min(scores)) or 0.1)
        for axes, (title, rows) in zip(panels, levers.items(), strict=True):
            axes.set_xlim(min(scores) - margin, max(scores) + margin)
            _strips(axes, title, rows)
            if control:
                axes.axvline(control[1], color=INK, linestyle="--", linewidth=1.2)
        panels[-1].set_xlabel(label + (f"\n(dashed: {shorten(control[0], 30)}, the best control)" if control else ""))
        texts = [
            f"{title}: "
            + ", ".join(
                f"{row.value} median {format_score(row.median)}, best {format_score(row.best.score)}" for row in rows
            )
            for title, rows in levers.items()
        ]
        return render_figure(figure, f"{label[0].upper()}{label[1:]} by what was chosen. {'; '.join(texts)}.")


def _strips(axes: Axes, title: str, rows: Sequence[LeverValue]) -> None:
    for place, row in enumerate(rows):
        # Trials of one score lie side by side, the same way each time.
        heights = [-place + _SPREAD * ((trial.number % _STEPS) / (_STEPS - 1) - 0.5) for trial in row.trials]
        axes.plot([trial.score for trial in row.trials], heights, "o", color=BLUE, markersize=3, alpha=0.6)
        axes.vlines(row.median, -place - 0.32, -place + 0.32, color=INK, linewidth=1.6)
        axes.plot(row.best.score, heights[row.trials.index(row.best)], "o", color=GREEN, markersize=4.5)
        text = axes.get_yaxis_transform()
        axes.text(1.02, -place, f"n = {len(row.trials)}", fontsize=8, va="center", transform=text)
    axes.set_title(wrap(title))
    axes.set_yticks([-place for place in range(len(rows))], [shorten(row.value, 22) for row in rows])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
