"""The report of a benchmark: leaderboards in the terminal, tables and figures in a folder."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from routing_env.benchmark.columns import COLUMNS, samples_to
from routing_env.benchmark.comparison_figures import save_comparison_figures
from routing_env.benchmark.damage import damage_in
from routing_env.benchmark.entries import Column
from routing_env.benchmark.exports import save_exports
from routing_env.benchmark.jobs import Job
from routing_env.benchmark.leaderboard import leaderboards, unfit
from routing_env.benchmark.scenario_scores import save_scenario_scores, scenario_scores, terminal_scores
from routing_env.benchmark.tables import costs, fitting, power, save_tables, terminal_legend, terminal_table, verdict
from routing_env.html.page import require_plotly
from routing_env.names import counted, printable
from routing_env.runs.process import explained, figures_failed
from routing_env.runs.settings import ReportOptions


def save_report(
    jobs: Sequence[Job],
    folder: Path,
    console: Console,
    options: ReportOptions | None = None,
    *,
    named: bool = False,
) -> None:
    """Print the leaderboards of the finished runs, and save tables, then figures.

    Args:
        jobs: Runs, finished or not.
        folder: Where to save.
        console: Where to print.
        options: What the report shows.
        named: Whether the caller has named the code of the runs, such as an own router; replays may then run it.

    Raises:
        ValueError: No run has finished, a run has no accuracies, ``against`` has no finished run in an arena, or
            ``samples_to`` is not an accuracy.
        OSError: A file cannot be written.
        ModuleNotFoundError: The HTML report is asked for, and plotly is not installed.
        RuntimeError: The figures could not be drawn; everything else is saved.
    """
    options = options or ReportOptions()
    if options.html:
        require_plotly()
    columns = (*COLUMNS, *map(samples_to, dict.fromkeys(options.samples_to)))
    boards = leaderboards(jobs, columns, against=options.against)
    if not boards:
        places = ", ".join(dict.fromkeys(str(job.path.parents[1]) for job in jobs))
        raise ValueError(
            f"none of these {len(jobs)} runs in {places} has finished; finish them with routing-env benchmark, or each "
            "with routing-env train --resume"
        )
    if waiting := len(jobs) - sum(row.seeds for board in boards for row in board.standings):
        first = next(job for job in jobs if job.epochs_done() < job.epochs)
        line = (
            f"left out: {counted(waiting, 'run')} that {'has' if waiting == 1 else 'have'} not finished: {first.path}"
        )
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    shown: dict[str, Column] = {}
    for board in boards:
        columns = fitting(board, console.width)
        shown |= {column.key: column for column in columns}
        console.print()
        console.print(terminal_table(board, columns))
        for line in (verdict(board), power(board), costs(board), board.differences):
            if line:
                console.print(printable(line), highlight=False, markup=False)
    scores = scenario_scores(jobs)
    if scores:
        console.print()
        console.print(terminal_scores(scores))
    console.print()
    console.print(terminal_legend(list(shown.values()), bold=console.is_terminal))
    _say_saved(console, [*save_tables(boards, jobs, folder), *save_exports(boards, jobs, folder)])
    if scores:
        _say_saved(console, save_scenario_scores(scores, folder))
    if options.html:
        from routing_env.benchmark.html_report import save_html  # it imports plotly

        _say_saved(console, [save_html(boards, scores, jobs, folder, console, named=named)])
    try:
        _say_saved(console, save_comparison_figures(jobs, folder, options.figures))
    except Exception as error:
        raise figures_failed(error, f"the report is saved in {folder}") from error


def comparable(jobs: Sequence[Job], console: Console) -> list[Job]:
    """The runs that leaderboards can show; the console says which others are left out.

    Raises:
        ValueError: There are others only.
    """
    others: dict[str, list[Job]] = {}
    for job in jobs:
        if why := unfit(job.rows()):
            others.setdefault(why, []).append(job)
    left_out = [f"left out: {counted(len(runs), 'run')} {why}: {runs[0].path}" for why, runs in others.items()]
    if sum(map(len, others.values())) == len(jobs):
        raise ValueError("\n".join(("leaderboards show test accuracies, and none of these runs has any", *left_out)))
    for line in left_out:
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    apart = {job for runs in others.values() for job in runs}
    return [job for job in jobs if job not in apart]


@contextmanager
def failures_told(
    what: str, reasons: Sequence[str], verdict: str = "failed; the same command tries them again"
) -> Generator[None, None, None]:
    """Raise for what failed before the block, whether or not the block fails too.

    Args:
        what: What failed, in words.
        reasons: A line for each failure; the block alone counts where there is none.
        verdict: What has become of them, in words that follow ``what``.

    Raises:
        ValueError: There are reasons; the message ends with the block's own error if it raised one.
    """
    told = [f"{what} {verdict}", *reasons]
    try:
        yield
    except Exception as error:
        if not reasons:
            raise
        raise ValueError("\n".join((*told, explained(error)))) from error
    if reasons:
        raise ValueError("\n".join(told))


@contextmanager
def damage_told(jobs: Sequence[Job], damaged: Mapping[Path, str] | None = None) -> Generator[list[Job], None, None]:
    """Yield the runs whose files can be read; then raise for the others, whether or not the block raises too.

    Args:
        jobs: Of a benchmark or a report.
        damaged: Further folders of runs that are known to be damaged, each with why.

    Raises:
        ValueError: Files are damaged; the message has a line for each such run.
    """
    reasons = {**(damaged or {}), **{job.path: reason for job in jobs if (reason := damage_in(job.path))}}
    sound = [job for job in jobs if job.path not in reasons]
    what, verdict = f"{len(reasons)} of {len(sound) + len(reasons)} runs", "are damaged and left out"
    if reasons and not sound:
        raise ValueError("\n".join((f"{what} {verdict}", *reasons.values())))
    with failures_told(what, list(reasons.values()), verdict):
        yield sound


def _say_saved(console: Console, paths: Iterable[Path]) -> None:
    for path in paths:
        console.print(printable(f"saved  {path}"), soft_wrap=True, highlight=False, markup=False)
