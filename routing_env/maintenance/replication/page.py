"""The page that compares the paper's numbers with ours, ``docs/replication.md``.

    python -m routing_env.maintenance.replication --runs runs/benchmark

records the finished runs in ``docs/replication.csv``, draws ``docs/images/replication-*.png``, and fills in the tables
between the marks of the page. Without ``--runs`` it makes the tables from the CSV alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from routing_env.benchmark.entries import p_value
from routing_env.benchmark.paper import EPOCHS, PAPERS_NAMES, TABLE_2
from routing_env.benchmark.statistics import mean_interval, paired_comparison
from routing_env.benchmark.suites import SUITES
from routing_env.benchmark.tables import markdown_table
from routing_env.maintenance.replication.finished_runs import (
    FIGURES,
    FRACTIONS,
    LONGER,
    OTHERS,
    Measured,
    Runs,
    collect,
    finished,
    merged,
    read,
    write,
)

SHOWN = (1, 5, 10)
"""Epochs of the paper's Table 2 that the suites reach."""

NOT_RUN = "not run"


def tables(runs: Runs) -> dict[str, str]:
    """Make the tables of the page in Markdown, by the names of their marks."""
    made = {f"table-2-fraction-{fraction:g}": _table_2(runs, fraction) for fraction in FRACTIONS}
    return made | {
        "differences": _differences(runs),
        "rho": f"`routing-env benchmark rho`\n\n{_over_rho(runs)}",
        "first-tasks": f"`routing-env benchmark first-tasks`\n\n{_over_first_tasks(runs)}",
        "cost": f"`routing-env benchmark cost --workers 1`\n\n{_cost(runs)}",
    }


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Replace the content of every ``<!-- begin NAME -->`` ... ``<!-- end -->`` in the page.

    Args:
        page: Text of the page.
        parts: New contents by name.

    Raises:
        ValueError: A mark has an unknown name or no end.
    """
    marks = re.findall(r"<!-- begin (\S+) -->", page)
    unknown = [name for name in marks if name not in parts]
    if unknown or len(marks) != page.count("<!-- end -->"):
        raise ValueError(f"marks {', '.join(marks)}: each needs an end and one of the names {', '.join(parts)}")

    def replaced(found: re.Match[str]) -> str:
        return f"<!-- begin {found[1]} -->\n\n{parts[found[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- begin (\S+) -->.*?<!-- end -->", replaced, page, flags=re.DOTALL)


def draw(base: Path, folder: Path) -> list[Path]:
    """Draw the paper's figures from the finished runs and return their paths."""
    from routing_env.benchmark.comparison_figures import learning_curves, over_rho, over_tasks
    from routing_env.drawing.style import DPI

    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        **{suite: (number, learning_curves) for suite, number in FIGURES.items()},
        "rho": ("12", over_rho),
        "cost": ("13", over_tasks),
        "first-tasks": ("15", learning_curves),
    }
    paths: list[Path] = []
    for fraction in FRACTIONS:
        for suite, (number, plot) in figures.items():
            if jobs := finished(base, suite, fraction):
                paths.append(folder / f"replication-figure-{number}{'' if fraction == 1 else f'-{fraction:g}'}.png")
                plot(jobs).savefig(paths[-1], dpi=DPI)
    return paths


def _select(
    runs: Runs, suite: str, fraction: float, arena: str, entrant: str, epochs: int | None = None
) -> list[Measured]:
    """Select an entrant's runs in an arena of a suite; ``epochs`` defaults to those of the suite."""
    wanted = (fraction, arena, entrant, epochs or SUITES[suite].epochs)
    return [run for run in runs if (run.fraction, run.arena, run.entrant, run.epochs) == wanted]


def _table_2(runs: Runs, fraction: float) -> str:
    """The paper's Table 2 up to the suites' last epoch, with our numbers; for less than all samples, ours alone."""
    whole = fraction == 1
    headings = ["entrant", "in the paper"] if whole else ["entrant"]
    for epoch in SHOWN:
        headings += [f"epoch {epoch}: paper", "ours"] if whole else [f"epoch {epoch}"]
    headings += ["balanced", "worst task", "seeds"]
    lines: list[list[str]] = []
    for suite, number in FIGURES.items():
        (arena,) = SUITES[suite].arenas
        scale = "" if whole else f" --fraction {fraction:g}"
        group = f"**Figure {number}**: `routing-env benchmark {suite}{scale}`"
        lines.append([group, *[""] * (len(headings) - 1)])
        for entrant, printed in TABLE_2[f"Figure {number}"].items():
            own = _select(runs, suite, fraction, arena.name, entrant)
            line = [f"`{entrant}`", PAPERS_NAMES[entrant]] if whole else [f"`{entrant}`"]
            for epoch in SHOWN:
                ours = _cell([getattr(run, f"test_{epoch}") for run in own])
                line += [str(printed[EPOCHS.index(epoch)]), ours] if whole else [ours]
            if own:
                line += [_cell([run.balanced for run in own]), _cell([run.worst for run in own]), str(len(own))]
            lines.append(line + [""] * (len(headings) - len(line)))
    return markdown_table(headings, lines)


def _differences(runs: Runs) -> str:
    """WPL and the best baseline of each arena, compared seed by seed."""
    headings = (
        "data",
        "training samples",
        "epochs",
        "best baseline",
        "its accuracy",
        "`wpl`",
        "difference",
        "p",
        "seeds",
    )
    lines: list[list[str]] = []
    for suite in ("cifar", "min", "mnist", "first-tasks"):
        scales = [(fraction, None) for fraction in FRACTIONS[: 1 if suite in OTHERS else None]]
        for fraction, epochs in (*scales, *LONGER.get(suite, ())):
            for arena in SUITES[suite].arenas:
                entered = {e.name: _select(runs, suite, fraction, arena.name, e.name, epochs) for e in arena.entrants}
                rivals = {name: own for name, own in entered.items() if own and own[0].kind == "baseline"}
                line = [arena.name, f"{100 * fraction:g} %", str(epochs or SUITES[suite].epochs)]
                if not rivals or not entered["wpl"]:
                    lines.append([*line, NOT_RUN, *[""] * 5])
                    continue
                best = max(rivals, key=lambda name: np.mean([run.validation for run in rivals[name]]))
                ours, theirs = ({run.seed: run.test for run in entered[name]} for name in ("wpl", best))
                seeds = sorted(ours.keys() & theirs.keys())
                versus = paired_comparison([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
                lines.append(
                    [
                        *line,
                        f"`{best}`",
                        _cell([theirs[seed] for seed in seeds]),
                        _cell([ours[seed] for seed in seeds]),
                        f"{100 * versus.difference:+.1f}{_half(100 * (versus.high - versus.difference))}",
                        p_value(versus.p),
                        str(len(seeds)),
                    ]
                )
    return markdown_table(headings, lines)


def _over_rho(runs: Runs) -> str:
    """The numbers of Figure 12."""
    headings = ("rho", "test accuracy", "balanced", "effective blocks", "policy entropy (nats)", "seeds")
    (arena,) = SUITES["rho"].arenas
    lines: list[list[str]] = []
    for entrant in arena.entrants:
        if "rho" not in entrant.game:
            continue
        own = _select(runs, "rho", 1.0, arena.name, entrant.name)
        shares = (_cell([run.test for run in own]), _cell([run.balanced for run in own]))
        blocks = _cell([run.effective_blocks for run in own], scale=1)
        entropy = _cell([run.policy_entropy for run in own], scale=1, digits=3)
        lines.append([f"{entrant.game['rho']}", *shares, blocks, entropy, str(len(own))])
    return markdown_table(headings, lines)


def _over_first_tasks(runs: Runs) -> str:
    """The numbers of Figure 15."""
    return _over_tasks(runs, "first-tasks", lambda run, _: run.test, scale=100, digits=1)


def _cost(runs: Runs) -> str:
    """The numbers of Figure 13: seconds per epoch and task."""
    return _over_tasks(runs, "cost", lambda run, tasks: run.seconds / run.epochs / tasks, scale=1, digits=2)


def _over_tasks(runs: Runs, suite: str, value: Callable[[Measured, int], float], *, scale: float, digits: int) -> str:
    """A table with a row per entrant and a column per number of tasks."""
    arenas = SUITES[suite].arenas
    lines: list[list[str]] = []
    for entrant in arenas[0].entrants:
        line = [f"`{entrant.name}`"]
        for arena in arenas:
            own = _select(runs, suite, 1.0, arena.name, entrant.name)
            line.append(_cell([value(run, arena.game["tasks"]) for run in own], scale=scale, digits=digits))
        lines.append(line)
    return markdown_table(["", *(f"{arena.game['tasks']} tasks" for arena in arenas)], lines)


def _cell(values: Sequence[float | None], *, scale: float = 100, digits: int = 1) -> str:
    """Format a mean over seeds, with the half width of its 95 % t-interval if there are several."""
    known = [scale * value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NOT_RUN
    mean, half = mean_interval(known)
    return f"{float(mean):.{digits}f}{_half(float(half), digits)}"


def _half(width: float, digits: int = 1) -> str:
    return "" if np.isnan(width) else f" ± {width:.{digits}f}"


def update(runs: Path | None = None, docs: Path = Path("docs")) -> None:
    """Update the replication's CSV, figures and tables.

    Args:
        runs: Folder of the benchmark's runs. Their rows in the CSV are added or replaced; all other rows are kept.
            Without this option the tables are made from the CSV as it is.
        docs: Folder of replication.md and replication.csv.
    """
    summary, page = docs / "replication.csv", docs / "replication.md"
    if runs is not None:
        new = collect(runs)
        if not new:
            raise ValueError(f"no run of a suite has finished in {runs}; name the --run-dir of routing-env benchmark")
        write(merged(read(summary) if summary.exists() else (), new), summary)
        for path in draw(runs, docs / "images"):
            print(path)
    page.write_text(fill(page.read_text(), tables(read(summary))))
    print(page)
