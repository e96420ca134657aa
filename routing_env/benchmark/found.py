"""The runs in folders, whoever made them, as jobs of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from routing_env.benchmark.damage import damage_in
from routing_env.benchmark.jobs import FAIRNESS, Job, telling_settings
from routing_env.benchmark.suites import BEST_KNOWN, Arena, Entrant
from routing_env.game.settings import Settings
from routing_env.names import by_number
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import RunSettings
from routing_env.scenarios import SCENARIOS


def found_jobs(paths: Sequence[Path], damaged: dict[Path, str] | None = None) -> list[Job]:
    """The runs in folders, whoever made them: an arena for each data set, with its first tasks or share of samples.

    An entrant is a router or baseline with its options, or the best known routing of a scenario; its name says in which
    other settings its runs differ, and how long it was trained and what validates it where others in the arena differ
    in that. Of several runs of an entrant with the same seed the last that has finished counts, by the names of the
    folders.

    Args:
        paths: folders of runs, or above them.
        damaged: Takes the runs that are left out because their files are damaged, each with why.

    Raises:
        FileNotFoundError: a folder without runs.
        DamagedError: The files of a run are damaged, and ``damaged`` is None.
    """
    folders = [folder for path in paths for folder in _runs_in(path)]
    if damaged is not None:
        damaged |= {folder: reason for folder in folders if (reason := damage_in(folder))}
    runs = {folder: RunDirectory(folder).read_config() for folder in folders if folder not in (damaged or ())}
    settings = {folder: telling_settings(run) for folder, run in runs.items()}

    def differing(folders: Sequence[Path]) -> set[str]:
        known = settings[folders[0]]
        return {key for key in known if any(settings[folder][key] != known[key] for folder in folders)}

    arenas: dict[str, list[Path]] = {}
    alike: dict[tuple[str, str], list[Path]] = {}
    for folder, run in runs.items():
        arena, name = _arena_name(run.game), _entrant_name(run)
        arenas.setdefault(arena, []).append(folder)
        alike.setdefault((arena, name), []).append(folder)
    jobs: dict[tuple[str, str, int], Job] = {}
    for (arena, name), group in alike.items():
        told = differing(group) | differing(arenas[arena]) & set(FAIRNESS)
        for folder in group:
            run = runs[folder]
            full = " ".join((name, *(f"{key}={value}" for key, value in settings[folder].items() if key in told)))
            job = Job(
                Arena(arena, {"data": run.game.data}, ()),
                Entrant(full, run.router, run.router_options),
                run.given(),
                folder,
            )
            place = arena, full, job.seed
            if place not in jobs or _rank(job) > _rank(jobs[place]):
                jobs[place] = job
    return list(jobs.values())


def _rank(job: Job) -> tuple[bool, object]:
    """Runs that have finished go first, then those that began later: a folder's name is the time and a number."""
    return job.epochs_done() >= job.epochs, by_number(job.path.name)


def _runs_in(path: Path) -> list[Path]:
    """The folders of runs from this one down, without the references of a run."""
    if (path / "config.json").is_file() or not path.is_dir():
        return [RunDirectory.open(path).path]
    found = sorted(config.parent for config in path.rglob("config.json") if config.parent.parent.name != "references")
    if not found:
        raise FileNotFoundError(f"there is no run in {path}: no folder in it has a config.json")
    return found


def _entrant_name(run: RunSettings) -> str:
    """Router or baseline with its options; a scenario's best known routing has the name that benchmarks give it."""
    who = run.router, tuple(run.router_options)
    scenario = run.game.scenario
    return BEST_KNOWN if scenario is not None and who == SCENARIOS[scenario].best else " ".join((who[0], *who[1]))


def _arena_name(game: Settings) -> str:
    if game.scenario is not None:
        return game.scenario
    tasks = "" if game.tasks is None else f", first {game.tasks} tasks"
    return f"{game.data}{tasks}" + ("" if game.fraction == 1 else f", fraction {game.fraction:g}")
