"""Advantage learning (Baird, 1995; Harmon & Baird, 1996): Q-learning with the gaps between actions widened."""

from __future__ import annotations

from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import OptimizerName
from routing_env.agents.networks import Network
from routing_env.agents.q_learning import QLearning, td_target
from routing_env.agents.table import Samples
from routing_env.agents.value_network import ValueNetworkRouter
from routing_env.types import GameSpec, Trace


def advantage_target(
    value: Tensor, rewards: Tensor, final_reward: Tensor, legal: Tensor, gamma: float, scale: float
) -> Tensor:
    """V(i) + (target(i) - V(i)) / scale with V = max_a A: Harmon & Baird's equation 4 with scale = K dt.

    The target is Q-learning's. Scale 1 is Q-learning; below 1 it widens the distance between the best action and the
    others by 1 / scale.

    Args:
        value: A, float32 [N, D, A].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        legal: bool [N, D, A].
        gamma: discount.
        scale: in (0, 1].

    Returns:
        float32 [N, D].
    """
    best = value.masked_fill(~legal, -float("inf")).amax(-1)
    return best + (td_target(value, rewards, final_reward, legal, gamma) - best) / scale


def _check(scale: float) -> float:
    if not 0 < scale <= 1:
        raise ValueError(f"scale is {scale}; it must be in (0, 1]")
    return scale


class AdvantageLearning(QLearning):
    """Tabular advantage learning.

    Args:
        spec: of the game.
        seed: of exploration.
        step: alpha.
        scale: K dt.
        epsilon: probability of a uniformly random legal action.
        gamma: discount.

    Raises:
        ValueError: scale outside (0, 1].
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.05,
        scale: float = 0.5,
        epsilon: Rate = (1.0, 0.02, 20_000),
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed, step=step, epsilon=epsilon, gamma=gamma)
        self.scale = _check(scale)

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """The advantage target."""
        return advantage_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma, self.scale)


class AdvantageLearningApprox(ValueNetworkRouter):
    """Advantage learning with function approximation; the other options are those of the base.

    Args:
        spec: of the game.
        seed: of weights and exploration.
        network: "mlps", "mlp", "table", or one's own.
        scale: K dt.
        learning_rate: of the router.
        optimizer: "adam" or "sgd".
        epsilon: probability of a uniformly random legal action.
        gamma: discount.
        train_blocks: add the squared error to the blocks' loss (section 3.1.2).

    Raises:
        ValueError: scale outside (0, 1].
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "mlps",
        scale: float = 0.5,
        learning_rate: Rate = 1e-3,
        optimizer: OptimizerName = "adam",
        epsilon: Rate = (1.0, 0.02, 20_000),
        gamma: float = 1.0,
        train_blocks: bool = False,
    ) -> None:
        super().__init__(
            spec,
            seed=seed,
            network=network,
            learning_rate=learning_rate,
            optimizer=optimizer,
            epsilon=epsilon,
            gamma=gamma,
            train_blocks=train_blocks,
        )
        self.scale = _check(scale)

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The advantage target."""
        return advantage_target(value, trace.action_rewards, trace.final_reward, legal, self.gamma, self.scale)
