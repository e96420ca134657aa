"""Actor-critic with a critic Q (Sutton et al., 2000), and with an advantage (Mnih et al., 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import OptimizerName, along_routes, of_taken
from routing_env.agents.networks import Network, make_network
from routing_env.agents.policy_gradient import SoftmaxRouter, entropy, policy_gradient_loss, usual_rate
from routing_env.agents.q_learning import one_step_return
from routing_env.agents.sarsa import sarsa_target
from routing_env.types import GameSpec, Trace


def generalized_advantage(
    value: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float, trace_decay: float
) -> Tensor:
    """A_i = delta_i + gamma lambda A_(i+1) (Schulman et al., 2016, equation 16).

    delta_i is the one-step return with V(i+1) for what follows, minus V(i); r_final is not discounted. Lambda 0 is
    delta itself, lambda 1 the return minus V.

    Args:
        value: V, float32 [B, D].
        rewards: float32 [B, D].
        final_reward: float32 [B].
        gamma: discount.
        trace_decay: lambda.

    Returns:
        float32 [B, D].
    """
    delta = one_step_return(value[:, 1:], rewards, final_reward, gamma) - value
    advantage = [delta[:, -1]]
    for i in reversed(range(delta.shape[1] - 1)):
        advantage.append(delta[:, i] + gamma * trace_decay * advantage[-1])
    return torch.stack(advantage[::-1], dim=1)


class ActorCritic(SoftmaxRouter):
    """The gradient of log pi(a_i) times Q(state_i, a_i); Q learns the squared TD error of SARSA.

    Args:
        spec: of the game.
        seed: of weights and exploration.
        network: of actor and critic: "table", "mlps", "mlp", or one's own.
        learning_rate: of the router; by default 0.05, for other networks than tables 0.003.
        optimizer: "adam" or "sgd".
        gamma: discount.
        entropy: weight of the policy's entropy.
        epsilon: see the base.
        train_blocks: add this router's loss to the blocks' (section 3.1.2).
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "table",
        learning_rate: Rate | None = None,
        optimizer: OptimizerName = "adam",
        gamma: float = 1.0,
        entropy: float = 0.0,
        epsilon: Rate | None = None,
        train_blocks: bool = False,
    ) -> None:
        self.critic = make_network(network, spec, self.critic_outputs(spec), seed + 1)
        super().__init__(
            spec,
            {"critic": self.critic},
            seed=seed,
            network=network,
            learning_rate=usual_rate(network) if learning_rate is None else learning_rate,
            optimizer=optimizer,
            gamma=gamma,
            epsilon=epsilon,
            train_blocks=train_blocks,
        )
        self.entropy = entropy

    def critic_outputs(self, spec: GameSpec) -> int:
        """Q has one value for each action."""
        return spec.actions

    def loss(self, trace: Trace) -> Tensor:
        """The actor's and the critic's."""
        log_policy, value = self.log_policy(trace), along_routes(self.critic, trace.states)
        target = sarsa_target(value.detach(), trace.actions, trace.action_rewards, trace.final_reward, self.gamma)
        value = of_taken(value, trace.actions)
        return self.total(log_policy, trace, weight=value, error=target - value)

    def total(self, log_policy: Tensor, trace: Trace, *, weight: Tensor, error: Tensor) -> Tensor:
        """Actor's loss, critic's squared error and entropy, float32 [B]."""
        actor = policy_gradient_loss(of_taken(log_policy, trace.actions), weight)
        return actor + error.square().sum(1) / 2 - self.entropy * entropy(log_policy).sum(1)


class AdvantageActorCritic(ActorCritic):
    """The gradient of log pi(a_i) times an advantage whose critic V learns towards advantage + V.

    Args:
        spec: of the game.
        seed: of weights and exploration.
        trace_decay: lambda of the advantage, 0 for one-step TD errors, 1 for whole returns.
        network: of actor and critic: "table", "mlps", "mlp", or one's own.
        learning_rate: of the router; by default 0.05, for other networks than tables 0.003.
        optimizer: "adam" or "sgd".
        gamma: discount.
        entropy: weight of the policy's entropy.
        epsilon: see the base.
        train_blocks: add this router's loss to the blocks' (section 3.1.2).
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        trace_decay: float = 0.0,
        network: Network = "table",
        learning_rate: Rate | None = None,
        optimizer: OptimizerName = "adam",
        gamma: float = 1.0,
        entropy: float = 0.0,
        epsilon: Rate | None = None,
        train_blocks: bool = False,
    ) -> None:
        super().__init__(
            spec,
            seed=seed,
            network=network,
            learning_rate=learning_rate,
            optimizer=optimizer,
            gamma=gamma,
            entropy=entropy,
            epsilon=epsilon,
            train_blocks=train_blocks,
        )
        self.trace_decay = trace_decay

    def critic_outputs(self, spec: GameSpec) -> int:
        """V is one number."""
        return 1

    def loss(self, trace: Trace) -> Tensor:
        """The actor's and the critic's."""
        log_policy, value = self.log_policy(trace), along_routes(self.critic, trace.states).squeeze(-1)
        held = value.detach()
        advantage = generalized_advantage(held, trace.action_rewards, trace.final_reward, self.gamma, self.trace_decay)
        return self.total(log_policy, trace, weight=advantage, error=advantage + held - value)
