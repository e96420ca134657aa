"""What a trained run is worth as a solution of its game: gaps of its policies beside what says whether gaps matter."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from torch import Tensor

from routing_env.analysis import Payoffs, best_response, earned, frozen_payoffs, most_routes, nash_gap, near_best
from routing_env.analysis.tree import LANES
from routing_env.data import SplitName
from routing_env.names import printable
from routing_env.runs.directory import RunDirectory
from routing_env.runs.learners import RouterLearner
from routing_env.runs.run import Run
from routing_env.types import Router

TOLERANCE = 0.02
"""In units of the reward; one percentage point of accuracy where r_final is +1 or -1."""


def show_game(run: Run, directory: RunDirectory, split: SplitName, most: int, console: Console) -> None:
    """Enumerate the routes of a trained run's game, and print what its router's policies lack.

    The best route of a task is chosen on the validation split, if there is one, and measured on ``split``.

    Args:
        run: The trained run.
        directory: Its files.
        split: "train", "validation" or "test".
        most: Where there may be more routes, this many are sampled.
        console: Where to print.

    Raises:
        ValueError: The run has no router whose game can be played here, or its final reward is not each lane's own.
    """
    learner = run.learner
    if not isinstance(learner, RouterLearner):
        raise ValueError(f"{run.settings.router} does not route a game; only runs of routers can be analysed")
    game, router = learner.game, learner.router
    criterion: SplitName = "validation" if len(game.data.validation) else split
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        deals = sum(-(-len(game.data.split(name)) // LANES) for name in (criterion, split))
        bar = progress.add_task("following routes", total=min(most, most_routes(game)) * deals)

        def payoffs_on(name: SplitName, valued: Router | None = None) -> Payoffs:
            return frozen_payoffs(game, name, router=valued, most=most, tick=lambda: progress.advance(bar))

        chosen = payoffs_on(criterion)
        try:
            payoffs = payoffs_on(split, router)
        except NotImplementedError:  # too many routes, or a router that does not say its policy
            payoffs = payoffs_on(split)
    value = earned(game, router, split, greedy=False) if payoffs.value is None else payoffs.value
    console.print(_table(run, payoffs, chosen, value, earned(game, router, split)))
    for line in (*_summary(payoffs, chosen, value), *_beside(run, directory, split)):
        console.print(printable(line), highlight=False, markup=False)


def _table(run: Run, payoffs: Payoffs, chosen: Payoffs, value: Tensor, greedy: Tensor) -> Table:
    """A row for each task, in units of the reward."""
    gap, near, best = nash_gap(payoffs, value, chosen=chosen), near_best(payoffs, TOLERANCE), best_response(chosen)
    legal = (~payoffs.reward.isnan()).sum(1)
    where = f"{run.ground}, {payoffs.split} split"
    title = f"{run.settings.router} on {where}, blocks as after epoch {run.epoch}"
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold", footer_style="bold")
    table.show_footer = True
    table.add_column("task", footer="mean", overflow="fold", max_width=40)
    for heading, values in (("policy\nearns", value), ("greedily\nearns", greedy), ("gain by the\nbest route", gap)):
        table.add_column(heading, footer=f"{float(values.mean()):.3f}", justify="right")
    table.add_column("best route", no_wrap=True)
    table.add_column(f"routes within\n{TOLERANCE:g} of it", justify="right")
    for task, name in enumerate(run.learner.data.task_names):
        route = " > ".join(map(str, payoffs.routes[best[task]].tolist()))
        numbers = (f"{float(values[task]):.3f}" for values in (value, greedy, gap))
        table.add_row(Text(printable(name)), *numbers, route, f"{int(near[task])} of {int(legal[task])}")
    return table


def _summary(payoffs: Payoffs, chosen: Payoffs, value: Tensor) -> list[str]:
    """NashConv, and what it rests on."""
    gap = nash_gap(payoffs, value, chosen=chosen)
    share = float((near_best(payoffs, TOLERANCE) / (~payoffs.reward.isnan()).sum(1)).mean())
    lines = [
        f"NashConv {float(gap.clamp_min(0).sum()):.3f}, worst task {float(gap.max()):.3f}, in units of the reward",
        f"the best routes were chosen on the {chosen.split} split",
        f"{100 * share:.1f} % of the routes are about as good as the best: where all are, a gap of 0 says nothing",
    ]
    if not payoffs.exhaustive:
        lines.append(f"{len(payoffs.routes):,} routes were sampled and improved; a better one may have been missed")
    return lines


def _beside(run: Run, directory: RunDirectory, split: SplitName) -> list[str]:
    """What other routers reach in separate games, trained beside the run; nothing on training samples.

    Accuracies, or for regression losses.
    """
    if split == "train":
        return []
    references = [path.parent for path in sorted(directory.references.glob("*/metrics.jsonl"))]
    if not references:
        return ["train without --no-reference to see random fixed routes and the oracle beside it"]
    judged = run.learner.data.classes is not None
    measure = "accuracy" if judged else "loss"
    mine = directory.read_metrics()[-1].get(f"{split}_{measure}")
    lines: list[str] = []
    for reference in references:
        theirs = RunDirectory(reference).read_metrics()[-1].get(f"{split}_{measure}")
        if mine is None or theirs is None:
            return [f"the {split} split was not measured in training; say --split validation to see others beside it"]
        ours, other = (f"{100 * value:.1f} %" if judged else f"{value:.3f}" for value in (mine, theirs))
        regret = f"; regret {100 * (theirs - mine):.1f} points" if judged and reference.name == "oracle" else ""
        lines.append(f"{measure} {ours}, {reference.name} in a game of its own {other}{regret}")
    return lines
