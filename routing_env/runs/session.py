"""What ``routing-env train`` does with a run, and what it shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from routing_env.evaluations import Evaluation
from routing_env.names import counted, printable
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.process import figures_failed
from routing_env.runs.run import REFERENCES, Run, has_oracle, reference_settings
from routing_env.runs.sources import consent
from routing_env.runs.task_table import task_table
from routing_env.runs.trackers import TrackerName, tracked


def train_and_show(
    run: Run, directory: RunDirectory, console: Console, log: Sequence[TrackerName] = (), *, html: bool = False
) -> None:
    """Train a run and, if asked to, the routers to compare it with; then print and draw their results.

    Args:
        run: To train.
        directory: Where its files are.
        console: Where to print.
        log: Trackers that receive the metrics of the run.
        html: Write ``report.html`` too.

    Raises:
        OSError: A file cannot be written.
        RuntimeError: The figures could not be drawn; everything else has been printed.
    """
    display = Display(console)
    data = run.learner.data
    router, name = (escape(printable(text)) for text in (run.settings.router, run.ground))
    console.print(
        f"[bold]{router}[/bold] on [bold]{name}[/bold]: {counted(data.tasks, 'task')}, "
        f"{len(data.train):,} training, {len(data.validation):,} validation and {len(data.test):,} test samples; "
        f"{escape(printable(run.learner.description))}",
        highlight=False,
    )
    if run.learner.remark:
        console.print(printable(run.learner.remark), highlight=False, markup=False, style="dim")
    if run.learner.warning:
        console.print(printable(run.learner.warning), highlight=False, markup=False)
    with tracked(run, directory.path, log):
        run.train(directory, display)
    evaluation = run.evaluate(run.reported)
    references: dict[str, Evaluation] = {}
    for router, meaning in REFERENCES.items() if run.settings.reference else ():
        if router != run.settings.router and (router != "oracle" or has_oracle(run.learner)):
            console.print(f"\nfor comparison, the router [bold]{router}[/bold] ({meaning}):", highlight=False)
            other = Run(reference_settings(run.settings, router), run.data, places=run.places)
            its_directory = RunDirectory(directory.references / router)
            other.train(its_directory, display)
            references[router] = other.evaluate(run.reported)
    console.print()
    title = f"{run.settings.router} on {run.ground}: {run.reported} split after {counted(run.epoch, 'epoch')}"
    console.print(task_table(evaluation, data, title, pass_action=run.learner.pass_action, references=references))
    for part in run.learner.tables(directory.read_metrics()):
        console.print(part)
    lines = [f"run directory  {directory.path}"]
    if html:
        from routing_env.runs.html_report import save_run_page  # it imports plotly

        lines.append(f"report         {save_run_page(run, directory)}")
    failure: Exception | None = None
    try:
        lines.extend(f"figure         {figure}" for figure in run.draw(directory))
    except Exception as error:
        failure = error
    for line in (*lines, f"again          routing-env evaluate {directory.path}{consent(run.settings)}"):
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    if failure is not None:
        raise figures_failed(failure, f"{directory.path} is trained and its tables are above") from failure
