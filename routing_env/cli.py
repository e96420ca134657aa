"""``routing-env``: the command line.

torch and what needs it is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from routing_env.benchmark.engines import EngineOptions, make_engine
from routing_env.game.settings import Settings
from routing_env.interrupts import interruptible
from routing_env.names import counted, file_name, printable
from routing_env.options import data_on_command_line, options_of
from routing_env.runs.settings import SB3_PREFIX, BenchmarkOptions, ReportOptions, RunSettings, TuneOptions, resumed
from routing_env.runs.trackers import TrackerName

app = tyro.extras.SubcommandApp()
console = Console()

_SAME_COMMAND = "the same command goes on from here"
"""How to continue what is made of many runs."""

if TYPE_CHECKING:
    from routing_env.runs.directory import RunDirectory
    from routing_env.runs.run import Run

    GivenSettings = dict[str, Any]
else:
    GivenSettings = options_of(RunSettings, Settings, data=data_on_command_line())


@app.command
def train(
    given: Annotated[GivenSettings, tyro.conf.arg(name="")],
    *,
    run_dir: Path = Path("runs"),
    name: str | None = None,
    resume: Path | None = None,
    settings: Path | None = None,
    log: tuple[TrackerName, ...] = (),
    html: bool = False,
    trust: bool = False,
) -> None:
    """Train a router and the blocks it routes through; by default WPL on digits.

    Args:
        given: settings; what is not given follows from the data set.
        run_dir: Folder of all runs.
        name: Folder inside it for runs of this kind; by default data-router or scenario-router.
        resume: Continue this run directory with its own settings, of which only --epochs, --device and --data-dir may
            change.
        settings: File of tuned settings, as routing-env tune writes it, with an entry for the router.
        log: Trackers that also receive the metrics; each is an extra, such as routing-env[tensorboard].
        html: Write report.html into the run's folder, with charts and a replay; needs routing-env[html].
        trust: With --resume, execute Python from outside this package that the run's settings name.
    """
    from routing_env.benchmark.tuned import with_tuned_router
    from routing_env.html.page import require_plotly
    from routing_env.runs.directory import RunDirectory
    from routing_env.runs.learners import is_baseline
    from routing_env.runs.process import prepare
    from routing_env.runs.run import Run, resolve_run
    from routing_env.runs.session import train_and_show
    from routing_env.runs.settings import refuse_of_routing
    from routing_env.runs.sources import consent
    from routing_env.runs.trackers import require_trackers
    from routing_env.runs.zoo import PREFIX

    require_trackers(log)
    if html:
        require_plotly()
    if resume is not None:
        if settings is not None:
            raise ValueError("a resumed run keeps its settings; leave --settings out, or start a new run")
        if str(resume).startswith(PREFIX):
            raise ValueError(f"{resume} stays as it is; train a run of your own by the command on its card.md")
        directory = RunDirectory.open(resume)
        stored = resumed(given, directory.read_config())
        directory.refuse_recorded()
        prepare(stored.threads)
        run = Run.stored(directory, stored, trust=trust, named=given)
        _say(directory.remarks())
        if (done := directory.epoch) > run.epochs:
            raise ValueError(f"{resume} has trained {done} epochs; --epochs {run.epochs} would have to forget some")
        if done:
            directory.read_metrics()
    else:
        resolved, data = resolve_run(given if settings is None else with_tuned_router(given, settings))
        if is_baseline(resolved.router):
            refuse_of_routing(resolved.router, given)
        prepare(resolved.threads)
        run = Run(resolved, data)
        router = resolved.router.removeprefix(SB3_PREFIX).partition(":")[0]
        kind = name or f"{run.ground}-{Path(router).stem}"
        directory = RunDirectory.create(run_dir, kind, run.settings, data)
    again = f"continue with: routing-env train --resume {directory.path}{consent(run.settings)}"
    with directory.held(wait=False), interruptible(printable(again)):
        try:
            train_and_show(run, directory, console, log, html=html)
        except OSError as error:
            raise OSError(f"{error}; fix that (permissions? disk full?) and {again}") from error


def _say(lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(printable(line), soft_wrap=True, highlight=False, markup=False)


@app.command
def benchmark(
    suite: tyro.conf.Positional[str] = "digits",
    *,
    config: Annotated[BenchmarkOptions, tyro.conf.arg(name="")],
    engine: Annotated[EngineOptions, tyro.conf.arg(name="")],
) -> None:
    """Compare routers and baselines over seeds: a leaderboard with statistics, tables and figures.

    It can be stopped at any moment; the same command continues it, and finished runs are not repeated.

    Args:
        suite: Name of a suite, see `routing-env list`.
        config: settings.
        engine: Where to train.
    """
    from routing_env.benchmark.grid import run_jobs
    from routing_env.benchmark.jobs import asked_for, who_was_tuned
    from routing_env.benchmark.report import damage_told, failures_told, save_report
    from routing_env.html.page import require_plotly

    if config.html:
        require_plotly()
    name, jobs = asked_for(suite, config)
    _say(who_was_tuned(suite, config))
    with interruptible(_SAME_COMMAND):
        failed = run_jobs(jobs, console, make_engine(engine))
    reasons = [f"{job.path}: {reason}" for job, reason in failed.items()]
    folder = config.run_dir / "reports" / name
    with failures_told(f"{len(failed)} of {len(jobs)} runs", reasons):
        if len(failed) < len(jobs):
            with damage_told([job for job in jobs if job not in failed]) as sound:
                save_report(sound, folder, console, config, named=True)


@app.command
def tune(
    suite: tyro.conf.Positional[str] = "digits",
    *,
    config: Annotated[TuneOptions, tyro.conf.arg(name="")],
    engine: Annotated[EngineOptions, tyro.conf.arg(name="")],
    report: bool = False,
) -> None:
    """Choose settings on the validation split, with equal budgets for routers and baselines; see docs/tuning.md.

    It can be stopped at any moment; the same command continues it. It needs `pip install 'routing-env[tune]'`.

    Args:
        suite: A suite of `routing-env list` with one arena, whose entrants are tuned.
        config: settings.
        engine: Where to train.
        report: Show and save the results so far, without running any trial.
    """
    from routing_env.benchmark.report import failures_told
    from routing_env.benchmark.studies import Study, run_studies
    from routing_env.benchmark.tuning import budget, searches_for
    from routing_env.benchmark.tuning_report import save_tuning

    searches = searches_for(suite, config)
    _say(budget(searches))
    failures: list[str] = []
    with interruptible(_SAME_COMMAND):
        studies = [Study(search) for search in searches]
        if not report:
            failures = run_studies(studies, console, make_engine(engine))
    with failures_told(counted(len(failures), "trial"), failures):
        save_tuning(studies, config, console)


@app.command
def report(
    what: tyro.conf.Positional[tuple[str, ...]] = ("digits",),
    *,
    config: Annotated[BenchmarkOptions, tyro.conf.arg(name="")],
) -> None:
    """Make tables and figures of finished runs, without running any: those of a benchmark, or any runs in folders.

    The report of a benchmark also draws each router's policy.

    Args:
        what: A suite, with the same options as for `routing-env benchmark`, or folders of runs.
        config: settings.
    """
    from routing_env.benchmark.comparison_figures import policies
    from routing_env.benchmark.found import found_jobs
    from routing_env.benchmark.jobs import asked_for, report_name, who_was_tuned
    from routing_env.benchmark.report import comparable, damage_told, save_report
    from routing_env.benchmark.suites import SUITES

    folders = [Path(name) for name in what]
    if what[1:] or (what[0] not in SUITES and (folders[0].is_dir() or len(folders[0].parts) > 1)):
        of_report = {name: getattr(config, name) for name in ("run_dir", *ReportOptions.__dataclass_fields__)}
        if config != BenchmarkOptions(**of_report):
            allowed = ", ".join(f"--{name.replace('_', '-')}" for name in of_report)
            raise ValueError(f"folders of runs say themselves what was run; leave out all options but {allowed}")
        damaged: dict[Path, str] = {}
        with damage_told(found_jobs(folders, damaged), damaged) as sound:
            sound = comparable(sound, console)
            arenas, entrants = (
                list(dict.fromkeys(getattr(job, kind).name for job in sound)) for kind in ("arena", "entrant")
            )
            kind = "-".join(("runs", *arenas, *(() if config.against is None else ("against", config.against))))
            folder = config.run_dir / "reports" / report_name(kind, sound, entrants)
            save_report(sound, folder, console, config)
        return
    name, jobs = asked_for(what[0], config)
    _say(who_was_tuned(what[0], config))
    with damage_told(jobs) as sound:
        folder = config.run_dir / "reports" / name
        save_report(sound, folder, console, config, named=True)
        _say(f"saved  {path}" for path in policies(sound))


@app.command
def evaluate(
    run: tyro.conf.Positional[Path],
    *,
    split: Literal["train", "validation", "test"] = "test",
    device: str | None = None,
    data_dir: str | None = None,
    trust: bool = False,
) -> None:
    """Evaluate a trained run on a split, greedily and by drawing from its policy.

    Args:
        run: A run directory, runs/<name>/<run id>, or a trained run of the zoo, such as zoo:wpl-digits.
        split: Samples to route.
        device: Device; defaults to the training device.
        data_dir: Folder that holds the data set's files; defaults to that of the training.
        trust: Execute Python from outside this package that the run's settings name.
    """
    from routing_env.runs.task_table import task_table

    trained, _ = _restored(run, device, data_dir, trust=trust)
    learner = trained.learner
    title = f"{trained.settings.router} on {trained.ground}, {split} split, after epoch {trained.epoch}"
    references = {name: other for name, other in (("drawn", learner.evaluate_drawn(split)),) if other is not None}
    console.print(
        task_table(trained.evaluate(split), learner.data, title, pass_action=learner.pass_action, references=references)
    )


def _restored(run: Path, device: str | None, data_dir: str | None, *, trust: bool) -> tuple[Run, RunDirectory]:
    """A trained run as its checkpoint has it."""
    from routing_env.runs.directory import RunDirectory
    from routing_env.runs.loading import load_run
    from routing_env.runs.process import prepare
    from routing_env.runs.zoo import run_folder

    directory = RunDirectory.open(run_folder(run))
    prepare(directory.read_config().threads)
    trained = load_run(run, device=device, data_dir=data_dir, trust=trust)
    _say(directory.remarks())
    return trained, directory


@app.command
def analyse(
    run: tyro.conf.Positional[Path],
    *,
    split: Literal["train", "validation", "test"] = "test",
    most: int = 20_000,
    device: str | None = None,
    data_dir: str | None = None,
    trust: bool = False,
) -> None:
    """Enumerate the routes in a trained run's game: what a task would gain by another one, and how many are as good.

    Args:
        run: A run directory, runs/<name>/<run id>, or a trained run of the zoo, such as zoo:wpl-digits.
        split: Samples to route; the best routes are chosen on the validation split.
        most: Largest number of routes; if there may be more, this many are sampled.
        device: Device; defaults to the training device.
        data_dir: Folder that holds the data set's files; defaults to that of the training.
        trust: Execute Python from outside this package that the run's settings name.
    """
    from routing_env.runs.game_table import show_game

    trained, directory = _restored(run, device, data_dir, trust=trust)
    show_game(trained, directory, split, most, console)


@app.command(name="list")
def list_(name: tyro.conf.Positional[str] = "") -> None:
    """List data sets, routers, baselines, suites and the zoo; or the options of one router or baseline.

    Args:
        name: A router or baseline, your own included, whose options to list with their defaults.
    """
    from routing_env.benchmark.option_table import show_everything, show_options

    if name:
        show_options(name, console)
    else:
        show_everything(console)


@app.command
def data(
    name: tyro.conf.Positional[str],
    *,
    data_dir: str | None = None,
    validation: float = Settings.validation,
    sheet: Path | None = None,
) -> None:
    """Show a data set: samples per task and split, label balance, and a sheet of examples.

    Args:
        name: A data set of `routing-env list`.
        data_dir: Folder that holds its files; defaults to the environment variable ROUTING_ENV_DATA, else ./data.
        validation: Share of the training inputs held out for validation.
        sheet: PNG file for the examples; by default <name>.png in the current folder, for images.
    """
    from routing_env.data import load
    from routing_env.data.summary import print_summary, save_contact_sheet

    loaded = load(name, data_dir=data_dir, validation=validation)
    print_summary(loaded, console)
    if sheet is None and (loaded.classes is None or len(loaded.input_shape) < 2):
        return
    path = sheet or Path(file_name(name) + ".png")
    save_contact_sheet(loaded, path)
    _say([f"examples       {path}"])


@app.command
def download(name: tyro.conf.Positional[str], *, data_dir: str | None = None) -> None:
    """Download a data set's files; interrupted downloads continue, and checksums are verified.

    Args:
        name: A data set of `routing-env list`.
        data_dir: Folder to put them in; defaults to the environment variable ROUTING_ENV_DATA, else ./data.
    """
    from routing_env.data.download import download as fetch

    fetch(name, data_dir, console)


@app.command(name="compile")
def compile_() -> None:
    """Compile the blocks' C++ path, once per installation: training steps on the CPU become faster.

    The results stay the same to the bit. It takes half a minute, and needs a C++ compiler and
    `pip install 'routing-env[compile]'`.
    """
    from routing_env.game.compiled_maps import compile_maps

    with interruptible("nothing has been compiled"), console.status("compiling, which takes about half a minute"):
        _say([f"compiled: {compile_maps()}", "processes that start from now on use it"])


def main() -> None:
    """Run the command line; an error is one line on standard error, with the place of an error in your own code.

    The environment variable ROUTING_ENV_TRACEBACK, set to anything, lets Python print the whole traceback instead.
    """
    for stream in (sys.stdout, sys.stderr):  # whose encoding may not have every character of a name
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:] == ["--version"]:
        from routing_env.runs.directory import versions

        print(*(f"{name} {number}" for name, number in versions().items()), sep="\n")
        return
    try:
        app.cli(
            prog="routing-env",
            description="Routing networks as a game. --version prints the versions that matter.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ROUTING_ENV_TRACEBACK"):
            raise
        from routing_env.runs.process import explained

        lines = "\n".join(map(printable, explained(error).splitlines()))
        Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {lines}"), soft_wrap=True)
        sys.exit(2)
