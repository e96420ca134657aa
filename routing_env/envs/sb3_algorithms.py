"""The algorithms of Stable-Baselines3 and sb3-contrib: which of them can be routers, and why the others cannot."""

from __future__ import annotations

from typing import Any

from routing_env.names import import_object, look_up

ALGORITHMS = {
    "A2C": ("stable_baselines3:A2C", "Advantage actor-critic, synchronous (Mnih et al., 2016)."),
    "DQN": ("stable_baselines3:DQN", "Deep Q-network with a replay buffer (Mnih et al., 2015)."),
    "MaskablePPO": ("sb3_contrib:MaskablePPO", "PPO that never takes an illegal action (Huang & Ontañón, 2022)."),
    "PPO": ("stable_baselines3:PPO", "Proximal policy optimisation (Schulman et al., 2017)."),
    "QRDQN": (
        "sb3_contrib:QRDQN",
        "DQN with quantiles of the return, acting by their mean (Dabney et al., 2018).",
    ),
    "TRPO": ("sb3_contrib:TRPO", "Trust-region policy optimisation (Schulman et al., 2015)."),
}
"""Those that can be routers: where each is, and what it is."""

_CONTINUOUS = "its action space is continuous; routing is discrete"
UNFIT = {
    "ARS": "it compares policies that it evaluates one after another, and the blocks change in between",
    "RecurrentPPO": "its policy has an LSTM, and a router may be asked for any decision by itself",
    **dict.fromkeys(("CrossQ", "DDPG", "SAC", "TD3", "TQC"), _CONTINUOUS),
}
"""The others, and why they are refused."""


def algorithm_class(name: str) -> Any:
    """The class of an algorithm that can be a router.

    Raises:
        ValueError: Unknown name (the message suggests the closest match), or an algorithm that cannot route.
    """
    if name in UNFIT:
        raise ValueError(f"{name} cannot route: {UNFIT[name]}; use {', '.join(ALGORITHMS)}")
    return import_object(look_up("Stable-Baselines3 algorithm", name, ALGORITHMS)[0])
