"""The HTML report of a benchmark: leaderboards, curves, profiles, scores of scenarios, and replays of its routers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import track

from routing_env.benchmark.columns import area_so_far
from routing_env.benchmark.entries import Value, measured_alike
from routing_env.benchmark.jobs import Job, takes_best_known_routing
from routing_env.benchmark.leaderboard import REFERENCES, Leaderboard
from routing_env.benchmark.scenario_scores import ScenarioScores
from routing_env.benchmark.statistics import CensoredMedian, Interval, mean_interval, performance_profile
from routing_env.benchmark.suites import BEST_KNOWN, FLOOR
from routing_env.benchmark.tables import costs, power, shown_in, verdict
from routing_env.evaluations import Rows
from routing_env.html import charts, page
from routing_env.names import counted
from routing_env.runs.directory import RunDirectory
from routing_env.runs.html_report import replay_of_run
from routing_env.runs.learners import is_baseline
from routing_env.runs.run import Run

ACCURACY = "test accuracy in %"


def save_html(
    boards: Sequence[Leaderboard],
    scores: Sequence[ScenarioScores],
    jobs: Sequence[Job],
    folder: Path,
    console: Console,
    *,
    named: bool,
) -> Path:
    """Write ``report.html``.

    Args:
        boards: Leaderboards of the finished runs.
        scores: Scores of scenarios, if there are any.
        jobs: Runs, finished or not.
        folder: Where to save.
        console: Where to show the progress.
        named: Whether the caller has named the code of the runs, which may then run.

    Raises:
        OSError: The file cannot be written.
    """
    done = [job for job in jobs if job.epochs_done() >= job.epochs]
    panels: dict[str, str] = {}
    for board in track(boards, "HTML report", console=console, transient=True, disable=not console.is_terminal):
        own = [job for job in done if job.arena.name == board.arena]
        panels[board.arena] = "\n".join([_leaderboard(board), _curves(own), _replays(own, named=named)])
    parts = [_scenarios(scores)] if scores else []
    parts.append(page.choices("Results on", panels))
    subtitle = f"{counted(len(done), 'run')}; {'; '.join(dict.fromkeys(board.scale for board in boards))}"
    return page.save_page(folder / "report.html", f"Benchmark: {_listed(list(panels))}", subtitle, "\n".join(parts))


def _listed(names: Sequence[str]) -> str:
    """Up to four names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _leaderboard(board: Leaderboard) -> str:
    columns = shown_in(board, "markdown", "routing")
    rows = [
        [
            page.Cell(row.name + (" *" if row.name == board.against else ""), row.name),
            *(
                page.Cell(column.cell(value := row.values[column.key], "markdown"), _sorted_by(value))
                for column in columns
            ),
        ]
        for row in board.standings
    ]
    said = [f'<p class="verdict">{page.text(verdict(board))}</p>'] if verdict(board) else []
    said += [
        f'<p class="note">{page.text(line)}</p>' for line in (power(board), costs(board), board.differences) if line
    ]
    return page.section(
        f"Leaderboard: {board.arena}",
        f"Accuracies on the test split in %; {board.scale}. A tap on a heading sorts.",
        page.table(["entrant", *(column.heading for column in columns)], rows),
        page.meanings({column.heading: column.meaning for column in columns}),
        *said,
    )


def _sorted_by(value: Value) -> float | None:
    if isinstance(value, Interval):
        return value.value
    if isinstance(value, CensoredMedian):
        return math.inf if value.median is None else value.median
    return value


def _curves(jobs: Sequence[Job]) -> str:
    """Learning curves, performance profile, gap and regret of one arena."""
    runs: dict[str, dict[int, Rows]] = {}
    for job in jobs:
        runs.setdefault(job.entrant.name, {})[job.seed] = job.rows()
    names = list(runs)
    measured = {name: {seed: _accuracies(rows) for seed, rows in own.items()} for name, own in runs.items()}
    lines = {name: _curve(list(own.values())) for name, own in measured.items()}
    learning = charts.curves(lines, names, "epoch", ACCURACY, unit=" %", limits=(0, 100))
    several = max(map(len, runs.values())) > 1
    band = "Mean over seeds with its 95 % t-interval." if several else ""
    drawn = [page.section("Learning curves", band, page.chart(learning), level=3)]

    tasks = {
        name: 100 * np.array([rows[-1]["test_task_accuracy"] for rows in own.values()]) for name, own in runs.items()
    }
    every = np.concatenate([np.ravel(own) for own in tasks.values()])
    margin = max(0.02 * float(np.ptp(every)), 0.1)
    tau = np.linspace(every.min() - margin, every.max() + margin, 120)
    profiles = {name: charts.Curve(tau, *performance_profile(own, tau)) for name, own in tasks.items()}
    profile = charts.curves(profiles, names, f"tau: {ACCURACY}", "share of tasks above tau", limits=(0, 1))
    note = "Share of tasks and seeds whose accuracy exceeds tau: the higher, the better (Agarwal et al., 2021)."
    drawn.append(page.section("Performance profile", note, page.chart(profile), level=3))

    known = [job for job in jobs if takes_best_known_routing(job)]
    best_known = [(job.seed, runs[job.entrant.name][job.seed]) for job in known]
    gaps: dict[str, charts.Curve] = {}
    regrets: dict[str, charts.Curve] = {}
    for name in [name for name in names if name not in {job.entrant.name for job in known}]:
        best = measured_alike(runs[name], best_known)
        lacking = [(x, _accuracies(best[seed])[1] - y) for seed, (x, y) in measured[name].items() if seed in best]
        if lacking:
            gaps[name] = _curve(lacking)
            regrets[name] = _curve([(x, area_so_far(x, gap)) for x, gap in lacking])
    for title, note, shown in (
        ("Gap", "How far the accuracy is below that of the best known routing with the same seed.", gaps),
        ("Regret", "Mean gap from the first measurement to this epoch; at the end the leaderboard's regret.", regrets),
    ):
        if shown:
            figure = charts.curves(shown, names, "epoch", f"{title.lower()} in points of accuracy", unit=" points")
            drawn.append(page.section(title, note, page.chart(figure), level=3))
    return page.section("Over the training", "", page.charts(charts.line_styles(names), drawn))


_Measured = tuple[ArrayLike, np.ndarray[tuple[int], np.dtype[np.float64]]]
"""Epochs [E], and a value at each of them [E]."""


def _accuracies(rows: Rows) -> _Measured:
    return [row["epoch"] for row in rows], 100 * np.array([row["test_accuracy"] for row in rows])


def _curve(runs: Sequence[_Measured]) -> charts.Curve:
    """Mean and interval over the seeds, at the epochs that all of them have measured."""
    common = min(len(values) for _, values in runs)
    mean, half = mean_interval(np.array([values[:common] for _, values in runs]))
    return charts.Curve(np.asarray(runs[0][0])[:common], np.asarray(mean), np.asarray(half))


def _replays(jobs: Sequence[Job], *, named: bool) -> str:
    """The first finished run of each router that learns; a line says which could not be replayed."""
    first: dict[str, Job] = {}
    for job in jobs:
        if job.entrant.router not in REFERENCES and not is_baseline(job.entrant.router):
            first.setdefault(job.entrant.name, job)
    panels: dict[str, str] = {}
    missing: list[str] = []
    for name, job in first.items():
        try:
            directory = RunDirectory(job.path)
            run = Run.stored(directory, directory.read_config(), named=job.given if named else None)
            run.restore(directory)
            replay = replay_of_run(run, job.rows())
        except (ValueError, OSError) as error:
            missing.append(f"{name} cannot be replayed: {error}")
            continue
        if replay is not None:
            panels[f"{name}, seed {job.seed}"] = replay.html()
    parts = [page.choices("Training of", panels)] if panels else []
    parts += [f'<p class="note">{page.text(line)}</p>' for line in missing]
    return page.section("Replay of a training", "", *parts) if parts else ""


def _scenarios(scores: Sequence[ScenarioScores]) -> str:
    """Radar and table of the scores."""
    scaled = [each for each in scores if each.has_scale]
    names = [
        name for name in dict.fromkeys(n for each in scores for n in each.accuracy) if name not in (BEST_KNOWN, FLOOR)
    ]

    def score(each: ScenarioScores, name: str) -> float:
        return float(np.mean(list(each.normalised(name).values()))) if name in each.accuracy else math.nan

    values = {name: [score(each, name) for each in scaled] for name in names}
    rows = [
        [
            page.Cell(each.scenario, each.scenario),
            *(page.Cell("-" if math.isnan(one := score(each, name)) else f"{one:.2f}", one) for name in names),
        ]
        for each in scores
    ]
    parts = [page.table(["scenario", *names], rows)]
    if len(scaled) > 2:
        figure = charts.radar(values, names, [each.scenario for each in scaled])
        parts.insert(0, page.charts(charts.line_styles(names), [page.chart(figure, circular=True)]))
    note = "0 is what random fixed routes reach, 1 what the best known routing reaches, or else the best entrant."
    return page.section("Scenarios", note, *parts)
