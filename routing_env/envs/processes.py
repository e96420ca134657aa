"""Refuses wrappers that would run environments in separate processes, where each would train its own blocks."""

from __future__ import annotations

import sys

_WORKERS = {
    "agilerl.vector.pz_async_vec_env": ("__init__", "_async_worker"),
    "gymnasium.vector.async_vector_env": ("__init__", "_async_worker"),
    "runners.parallel_runner": ("env_worker",),  # of EPyMARL and PyMARL2
    "stable_baselines3.common.vec_env.subproc_vec_env": ("_worker",),
    "supersuit.vector.constructors": ("constructor",),
    "supersuit.vector.multiproc_vec": ("async_loop",),
}
"""Functions, by their modules, that build or run environments only where these are spread over processes.

Their names are all that tells such a wrapper from a process in which a user plays a separate world, which is fine:
the wrappers build a first environment in the main process, and ``multiprocessing.parent_process()`` is set in both.
"""


def refuse_worker_processes() -> None:
    """Raise where a vectorising wrapper is about to run environments in separate processes.

    Raises:
        RuntimeError: it is.
    """
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]  # inspect.stack would read source files
    while frame := frame.f_back:
        if frame.f_code.co_name in _WORKERS.get(frame.f_globals.get("__name__", ""), ()):
            raise RuntimeError(
                "environments in different processes cannot share their blocks, and each would train its own; use "
                "more lanes of one game instead: routing_env.envs.sb3.RoutingVecEnv(copies=...) or "
                "gymnasium.make_vec('routing_env:Routing-v0', num_envs=...), and in EPyMARL and PyMARL2 runner=episode "
                "with batch_size_run=1"
            )
