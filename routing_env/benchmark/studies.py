"""The trials of ``routing-env tune``.

Optuna suggests points of a space, an engine trains them, and a journal remembers how they ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console

from routing_env.benchmark.engines import Engine
from routing_env.benchmark.grid import refuse_missing_files
from routing_env.benchmark.jobs import Job
from routing_env.benchmark.tuned import Tuned
from routing_env.benchmark.tuning import Search
from routing_env.benchmark.worker import DIVERGED, STOP, STOPPED
from routing_env.checkpoint import DamagedError
from routing_env.names import printable
from routing_env.runs.display import clock
from routing_env.search_space import Choices, Dimension

try:
    import optuna
except ImportError as error:
    raise ValueError("tuning needs Optuna; install it with: pip install 'routing-env[tune]'") from error
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

MOST_REPEATS = 20
"""Points that the sampler may suggest, for each trial, before a search of a small space ends."""


@dataclass(eq=False)
class Playing:
    """A trial that is being trained.

    Attributes:
        study: That it belongs to.
        trial: Of Optuna.
        jobs: A run for each seed.
        reported: Last epoch that the pruner knows.
        pruned: Whether it is to be stopped.
    """

    study: Study
    trial: optuna.Trial
    jobs: list[Job]
    reported: int = 0
    pruned: bool = False

    def watch(self) -> None:
        """Tell the pruner what the run of the first seed has measured, and stop the trial if it says so."""
        for row in _rows_of(self.jobs[0]):
            if row["epoch"] <= self.reported:
                continue
            if self.pruned:
                break
            self.trial.report(_accuracy(row), row["epoch"])
            self.reported = row["epoch"]
            self.pruned = self.trial.should_prune()
        if self.pruned and self.jobs[0].path.is_dir():
            (self.jobs[0].path / STOP).touch()


class Study:
    """The search of one entrant: the same search, opened again, goes on where it stood.

    Args:
        search: What is searched.
    """

    def __init__(self, search: Search) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search = search
        self.running = 0
        self._failed = 0
        search.journal.parent.mkdir(parents=True, exist_ok=True)
        exhaustive = search.points is not None
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(search.journal))),
            study_name=search.entrant.name,
            direction="maximize",
            load_if_exists=True,
            pruner=NopPruner() if exhaustive else MedianPruner(n_warmup_steps=search.given["epochs"] // 4),
        )
        # Another seed after every start: the first one would suggest the same points again.
        seed = search.seeds[0] + len(self._study.trials)
        self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        self._distributions = {name: _distribution(one) for name, one in search.space.items()}

    def resume(self) -> None:
        """Put aside what a crash cut off, and let it and what failed be tried again."""
        for trial in self._study.trials:
            if trial.state is TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
        taken = {_key(point) for point in self._points(TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING)}
        again = [*self._points(TrialState.FAIL), *(self.search.points or [])]
        for key, point in {_key(point): point for point in again}.items():
            if key not in taken:
                self._study.enqueue_trial(point)

    def next(self) -> Playing | None:
        """The next trial; None where there is none, or none yet."""
        while self._wanted():
            trial = self._study.ask(self._distributions)
            known = self.ended.get(_key(trial.params))
            if known is None:
                self.running += 1
                return Playing(self, trial, self.search.jobs(trial.params))
            self._study.tell(trial, known.value if known.state is TrialState.COMPLETE else None, state=known.state)
        return None

    def end(self, playing: Playing, reason: str) -> str:
        """Keep how a trial has ended, and say it in words.

        Args:
            playing: The trial.
            reason: Why its runs did not finish; empty where they did.
        """
        self.running -= 1
        playing.watch()
        trial, jobs = playing.trial, playing.jobs
        if playing.pruned or reason == STOPPED:
            self._study.tell(trial, state=TrialState.PRUNED)
            return f"pruned at validation {100 * _accuracy(jobs[0].rows()[-1]):.2f} %"
        if reason and not reason.startswith(DIVERGED):
            self._study.tell(trial, state=TrialState.FAIL)
            self._failed += 1
            return f"failed: {reason}"
        accuracies = [0.0] if reason else [_accuracy(job.rows()[-1]) for job in jobs]
        trial.set_user_attr("accuracies", accuracies)
        self._study.tell(trial, float(np.mean(accuracies)))
        return f"validation {100 * np.mean(accuracies):.2f} %" + (f" ({reason.partition(';')[0]})" if reason else "")

    @property
    def ended(self) -> dict[str, FrozenTrial]:
        """Trials that have a result, or were pruned, by their points; the first of each point."""
        found: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            found.setdefault(_key(trial.params), trial)
        return found

    @property
    def completed(self) -> list[FrozenTrial]:
        """Trials with a result, in the order of their numbers."""
        return [trial for trial in self.ended.values() if trial.state is TrialState.COMPLETE]

    @property
    def complete(self) -> bool:
        """Whether all trials have ended."""
        points = self.search.points
        goal = self.search.trials if points is None else len(points)
        return len(self.ended) >= goal or len(self._study.trials) >= MOST_REPEATS * goal

    @property
    def seconds(self) -> float:
        """Spent on all trials."""
        jobs = (job for trial in self._study.trials for job in self.search.jobs(trial.params))
        paths = {job.path: rows[-1]["seconds"] for job in jobs if (rows := _rows_of(job))}
        return sum(paths.values())

    @property
    def best_trial(self) -> FrozenTrial | None:
        """The trial with the best score, the first of equals; None where none has a result."""
        return max(self.completed, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def best(self) -> Tuned | None:
        """The point with the best score as an entry of the file of settings."""
        best = self.best_trial
        return None if best is None else self.search.chosen(best.params, best.value or 0.0, len(self.ended))

    def _points(self, *states: TrialState) -> list[dict[str, Any]]:
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [trial.params or trial.system_attrs.get("fixed_params", {}) for trial in trials]

    def _wanted(self) -> bool:
        if self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return True
        if self.search.points is not None:
            return False
        return len(self.ended) + self.running + self._failed < self.search.trials and not self.complete


def run_studies(studies: Sequence[Study], console: Console, engine: Engine[Playing]) -> list[str]:
    """Run the trials that have not ended yet.

    Args:
        studies: A study for each entrant.
        console: For a line about each trial that ends.
        engine: That trains them.

    Returns:
        What failed, a line for each trial; the same call tries them again.

    Raises:
        FileNotFoundError: Files of a data set are missing.
        OSError: The folder cannot be written, another process runs one of the studies, or the engine has failed.
        ValueError: Runs have no accuracy, as in regression.
    """
    failures: list[str] = []
    with ExitStack() as stack:
        for study in studies:
            try:
                stack.enter_context(FileLock(study.search.journal.with_suffix(".lock"), timeout=0))
            except Timeout as error:
                raise OSError(f"another process runs the study {study.search.journal}; wait until it ends") from error
            study.resume()
        refuse_missing_files([Job(s.search.arena, s.search.entrant, s.search.given, s.search.journal) for s in studies])
        stack.enter_context(engine)
        playing: set[Playing] = set()
        while True:
            batch: list[Playing] = []
            while len(batch) < engine.free:
                ready = next((one for study in _least_busy(studies) if (one := study.next())), None)
                if ready is None:
                    break
                batch.append(ready)
            playing.update(batch)
            engine.start([(ready, [(dict(job.given), job.path) for job in ready.jobs]) for ready in batch])
            if not engine.busy:
                return failures
            for ended, reason in engine.ended():
                playing.remove(ended)
                said = ended.study.end(ended, reason)
                name = f"{ended.study.search.entrant.name}, trial {ended.trial.number}"
                shown = " ".join(f"{key.partition('.')[2]}={value}" for key, value in ended.trial.params.items())
                rows = _rows_of(ended.jobs[-1])
                line = f"{name:<37} {said}  {clock(rows[-1]['seconds']) if rows else '-'}  {shown}"
                console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
                if said.startswith("failed"):
                    failures.append(f"{name}: {said}")
            for one in playing:
                one.watch()


def _least_busy(studies: Sequence[Study]) -> list[Study]:
    return sorted(studies, key=lambda study: study.running)


def _rows_of(job: Job) -> Sequence[Mapping[str, Any]]:
    """What a run has measured; nothing where its files are damaged, for which its trial fails by itself."""
    try:
        return job.rows()
    except DamagedError:
        return []


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _accuracy(row: Mapping[str, Any]) -> float:
    accuracy = row["validation_accuracy"]
    if accuracy is None:
        raise ValueError("the runs have no accuracy: settings are chosen by it, for classification only")
    return accuracy


def _distribution(one: Dimension) -> BaseDistribution:
    if isinstance(one, Choices):
        return CategoricalDistribution(one.values)
    if one.integer:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)
