"""Two-player games in normal form, played by routers: many independent tables at once, two agents at each.

``python -m routing_env.maintenance.matrix_games`` measures the presets of ``routing_env.agents.presets`` and prints the
table of docs/routers.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
import tyro
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from routing_env.agents import PresetName, make_router, router_class
from routing_env.agents.base import PolicyTableRouter
from routing_env.agents.exp3 import EXP3
from routing_env.agents.gradient import SoftmaxRouter
from routing_env.agents.presets import MATRIX_GAMES
from routing_env.types import Decision, GameSpec, Outcome, Router, State, Trace


@dataclass(frozen=True, eq=False)
class MatrixGame:
    """A game between a row player and a column player who choose from A actions each.

    Attributes:
        row: Payoff of the row player, float32 [A, A], by (own action, the other's).
        column: Payoff of the column player, also by (own action, the other's).
        answer: The action that both should play, in games that have such an answer.
    """

    row: Tensor
    column: Tensor
    answer: int | None = None

    @property
    def actions(self) -> int:
        """Number of actions, A."""
        return len(self.row)

    def nash_conv(self, policy: Tensor) -> Tensor:
        """What the two players could gain by best responses, summed; 0 exactly in a Nash equilibrium.

        Args:
            policy: Policies of row and column player, float32 [..., 2, A].

        Returns:
            float32 [...].
        """
        own, other = policy, policy.flip(-2)
        value = torch.stack([other[..., 0, :] @ self.row.T, other[..., 1, :] @ self.column.T], dim=-2)
        return (value.amax(-1) - (value * own).sum(-1)).sum(-1)


def symmetric(payoff: Tensor, answer: int | None = None) -> MatrixGame:
    """A game with the same payoffs, float32 [A, A] by (own action, the other's), for both players."""
    return MatrixGame(payoff, payoff, answer)


def zero_sum(row: Tensor) -> MatrixGame:
    """A game in which one player wins what the other loses, from float32 [A, A] by (row, column)."""
    return MatrixGame(row, -row.T)


def as_rewards(payoff: Tensor) -> Tensor:
    """Payoffs shifted and scaled to the range [-1, 1], which has no influence on the equilibria."""
    least, greatest = payoff.min(), payoff.max()
    return 2 * (payoff - least) / (greatest - least) - 1


CLIMBING = torch.tensor([[11.0, -30, 0], [-30, 7, 6], [0, 0, 5]])
"""Claus & Boutilier (1998): penalties guard the best joint action, (0, 0)."""

ROCK_PAPER_SCISSORS = symmetric(torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]))
"""Zero-sum; the only equilibrium is (1/3, 1/3, 1/3) for both."""
MATCHING_PENNIES = zero_sum(torch.tensor([[1.0, -1], [-1, 1]]))
"""The only equilibrium is (1/2, 1/2) for both."""
BIASED_PENNIES = zero_sum(torch.tensor([[1.0, -0.6], [-0.6, 0.2]]))
"""The only equilibrium is (1/3, 2/3) for both."""
SHAPLEY = MatrixGame(as_rewards(torch.eye(3)), as_rewards(torch.eye(3).roll(1, 0)))
"""Shapley (1964): the row player wants to match, the column player to be one ahead; fictitious play circles for ever.
The only equilibrium is (1/3, 1/3, 1/3) for both."""
PRISONERS_DILEMMA = symmetric(as_rewards(torch.tensor([[3.0, 0], [5, 1]])), answer=1)
"""To defect, action 1, dominates."""
STAG_HUNT = symmetric(as_rewards(torch.tensor([[4.0, 0], [3, 3]])), answer=0)
"""Both hunt the stag, action 0, or both the hare, which is safe and needs no partner."""
CLIMBING_GAME = symmetric(as_rewards(CLIMBING), answer=0)
"""``CLIMBING`` as rewards."""

GAMES: dict[str, MatrixGame] = {
    "matching pennies": MATCHING_PENNIES,
    "biased pennies": BIASED_PENNIES,
    "prisoners' dilemma": PRISONERS_DILEMMA,
    "stag hunt": STAG_HUNT,
    "rock-paper-scissors": ROCK_PAPER_SCISSORS,
    "Shapley's game": SHAPLEY,
    "climbing": CLIMBING_GAME,
}


def matrix_spec(tables: int, actions: int) -> GameSpec:
    """A game of one decision; agents 2n and 2n + 1 sit at table n."""
    return GameSpec(
        tasks=2 * tables,
        depth=1,
        actions=actions,
        features=1,
        legal=torch.ones(1, actions, dtype=torch.bool),
        layers=(tuple(range(actions)),),
        device=torch.device("cpu"),
    )


def matrix_state(tables: int, actions: int) -> State:
    """What all players see: nothing."""
    lanes = 2 * tables
    legal = torch.ones(lanes, actions, dtype=torch.bool)
    return State(torch.zeros(lanes, 1), torch.arange(lanes), 0, legal)


def one_round(seen: State, decision: Decision, payoff: Tensor) -> Trace:
    """The trace of one decision per lane that earns payoffs float32 [B]."""
    nothing = torch.zeros(len(payoff), dtype=torch.bool)
    outcome = Outcome(seen.task, payoff[:, None], payoff.long(), payoff.long(), -payoff, nothing, nothing)
    return Trace((seen,), (decision,), torch.zeros(len(payoff), 1), payoff, outcome)


@dataclass(frozen=True)
class Played:
    """Exploring policies of G games at N tables each.

    Attributes:
        average: Average over the second half of the rounds, float32 [G, N, 2, A].
        recent: Of every tenth round in the last tenth, float32 [snapshots, G, N, 2, A].
        games: The games.
    """

    average: Tensor
    recent: Tensor
    games: Sequence[MatrixGame]

    def nash_conv(self) -> Tensor:
        """NashConv of the policies in the last tenth of the rounds, mean over rounds and tables; float32 [G]."""
        return torch.stack([game.nash_conv(self.recent[:, g]).mean() for g, game in enumerate(self.games)])

    def nash_conv_of_average(self) -> Tensor:
        """NashConv of the average policies, mean over the tables; float32 [G].

        It can be small although the policies themselves circle.
        """
        return torch.stack([game.nash_conv(self.average[g]).mean() for g, game in enumerate(self.games)])

    def answered(self) -> Tensor:
        """The share of the tables whose players both find the answer of their game most probable in the end, [G]."""
        answer = torch.tensor([-1 if game.answer is None else game.answer for game in self.games])
        return (self.recent[-1].argmax(-1) == answer.view(-1, 1, 1)).all(-1).float().mean(-1)


class SelfPlay(NamedTuple):
    """What one game of a router against itself came to, as in :class:`Played`."""

    nash_conv: float
    of_average: float
    answered: float


def play_matrix_games(router: Router, games: Sequence[MatrixGame], rounds: int, tables: int) -> Played:
    """Let a router's agents play each other; every player learns from the payoffs of sampled joint actions alone.

    Args:
        router: Built for :func:`matrix_spec` with ``tables`` tables for each of the games, one game after the other.
        games: With the same number of actions.
        rounds: Rounds at every table, at least 10.
        tables: Number of tables for each game.
    """
    actions, lanes = games[0].actions, 2 * tables * len(games)
    seen, lane = matrix_state(tables * len(games), actions), torch.arange(lanes)
    payoffs = torch.stack([torch.stack([game.row, game.column]) for game in games])
    payoffs = payoffs.repeat_interleave(tables, dim=0).flatten(0, 1)  # [lanes, A, A]
    total, recent = torch.zeros(lanes, actions), list[Tensor]()
    for played in range(rounds):
        decision = router.act(seen)
        assert decision.probability is not None
        own = decision.action
        other = own.view(-1, 2).flip(1).flatten()
        router.learn(one_round(seen, decision, payoffs[lane, own, other]))
        if played >= rounds // 2:
            total += decision.probability
        if played >= rounds - rounds // 10 and played % 10 == 9:
            recent.append(decision.probability)
    shape = len(games), tables, 2, actions
    return Played((total / (rounds - rounds // 2)).view(shape), torch.stack(recent).view(-1, *shape), games)


def start_anywhere(router: Router, seed: int) -> None:
    """Put every agent's policy at a random point of the simplex; a uniform start can be an equilibrium already.

    Nothing is done to routers whose policy follows from values that start at 0.
    """
    if isinstance(router, PolicyTableRouter | EXP3):
        tables = [router.log_weight] if isinstance(router, EXP3) else [router.tables[name] for name in router.policies]
    elif isinstance(router, SoftmaxRouter) and router.network == "table":
        tables = [parameter.data for parameter in router.policy.parameters()]
    else:
        return
    point = -torch.rand(tables[0].shape, generator=torch.Generator().manual_seed(seed)).log()
    point /= point.sum(-1, keepdim=True)
    for table in tables:
        table.copy_(point if isinstance(router, PolicyTableRouter) else point.log())


def play_all(name: str, preset: PresetName, *, rounds: int, tables: int, seed: int = 0) -> dict[str, SelfPlay]:
    """Let a router play every game against itself, from random policies.

    Args:
        name: A key of ``ROUTERS``; a softmax policy is a table in both presets.
        preset: A key of ``PRESETS``.
        rounds: Rounds at every table.
        tables: Tables for each game.
        seed: Of the router and of its first policies.

    Returns:
        What was measured, by the name of the game.
    """
    found: dict[str, SelfPlay] = {}
    kind = router_class(name)
    for actions in sorted({game.actions for game in GAMES.values()}):
        games = {title: game for title, game in GAMES.items() if game.actions == actions}
        spec = matrix_spec(len(games) * tables, actions)
        as_table: dict[str, Any] = {"network": "table"} if issubclass(kind, SoftmaxRouter) else {}
        router = make_router(name, spec, seed=seed, preset=preset, **as_table)
        start_anywhere(router, seed)
        played = play_matrix_games(router, list(games.values()), rounds, tables)
        measures = torch.stack([played.nash_conv(), played.nash_conv_of_average(), played.answered()], dim=1)
        found |= {title: SelfPlay(*row) for title, row in zip(games, measures.tolist(), strict=True)}
    return found


def measure(*, routers: tuple[str, ...] = tuple(MATRIX_GAMES), rounds: int = 5000, tables: int = 30) -> None:
    """Measure both presets in all games, and print a Markdown table.

    Args:
        routers: Routers that have options in the preset for matrix games.
        rounds: Rounds at every table.
        tables: Tables for each game.
    """
    torch.set_num_threads(1)
    console = Console()
    lines = [f"| router | preset | {' | '.join(GAMES)} |", "|---" * (2 + len(GAMES)) + "|"]
    presets: tuple[PresetName, ...] = get_args(PresetName)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("matrix games", total=len(routers) * len(presets))
        for name in routers:
            for preset in presets:
                progress.update(bar, description=f"{name}, {preset}")
                found = play_all(name, preset, rounds=rounds, tables=tables)
                cells = [_cell(game, found[title], tables) for title, game in GAMES.items()]
                lines.append(f"| `{name}` | {preset} | {' | '.join(cells)} |")
                progress.advance(bar)
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _cell(game: MatrixGame, measured: SelfPlay, tables: int) -> str:
    if game.answer is not None:
        return f"{round(measured.answered * tables)}/{tables}"
    return f"{measured.nash_conv:.2f} ({measured.of_average:.2f})"


if __name__ == "__main__":
    tyro.cli(measure, prog="python -m routing_env.maintenance.matrix_games")
