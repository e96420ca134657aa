"""Version 0 of the environment under PettingZoo's names: ``env`` is turn-based, ``parallel_env`` simultaneous."""

from __future__ import annotations

from typing import Any

from pettingzoo.utils.conversions import parallel_to_aec_wrapper
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from routing_env.envs.parallel import parallel_env

__all__ = ["env", "parallel_env", "raw_env"]


def raw_env(**arguments: Any) -> parallel_to_aec_wrapper[str, Any, Any]:
    """The environment turn by turn; the blocks are applied when the last agent has chosen."""
    return parallel_to_aec_wrapper(parallel_env(**arguments))


def env(**arguments: Any) -> OrderEnforcingWrapper[str, Any, Any]:
    """:func:`raw_env` with PettingZoo's checks of actions and of the order of calls."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(raw_env(**arguments)))
