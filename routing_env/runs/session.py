"""What ``routing-env train`` does with a run, and shows of it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from routing_env.runs.display import Display
from routing_env.runs.learners import RoutedLearner, forgets
from routing_env.runs.figures import save_figures
from routing_env.runs.task_table import task_table
from routing_env.runs.directory import RunDirectory
from routing_env.runs.run import Run, reference_config


def train_and_show(run: Run, directory: RunDirectory, console: Console) -> None:
    """Train a run and, if asked to, its reference; then draw and print what they came to."""
    display = Display(console)
    data = run.learner.data
    console.print(
        f"[bold]{escape(run.config.router)}[/bold] on [bold]{data.name}[/bold]: {data.tasks} tasks, "
        f"{len(data.train):,} training, {len(data.validation):,} validation and {len(data.test):,} test samples; "
        f"{run.description}",
        highlight=False,
    )
    if isinstance(run.learner, RoutedLearner) and forgets(run.learner.router):
        console.print("it has no state_dict: the run can be neither resumed nor evaluated later", highlight=False)
    run.train(directory, display)
    evaluation = run.evaluate()
    reference = None
    if run.config.reference and run.config.router != "fixed":
        console.print("\nfor comparison, the [bold]fixed[/bold] router (a block per task and layer):", highlight=False)
        fixed = Run(reference_config(run.config), data=data)
        fixed_directory = RunDirectory(directory.reference)
        fixed_directory.write_config(fixed.config)
        fixed.train(fixed_directory, display)
        reference = fixed.evaluate()
    figures = save_figures(directory, run)
    console.print()
    title = f"{run.config.router} on {data.name}: test split after {run.epoch} epochs"
    console.print(task_table(evaluation, data, title, pass_action=run.pass_action, reference=reference))
    console.print(f"run directory  {directory.path}", soft_wrap=True, highlight=False, markup=False)
    for figure in figures:
        console.print(f"figure         {figure}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"again          routing-env evaluate {directory.path}", soft_wrap=True, highlight=False, markup=False
    )
