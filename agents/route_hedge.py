"""Hedge over whole routes with full information, from a shared start: tasks part where the game shows that it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from routing_env.agents.base import PolicyRouter, undispatched_agent
from routing_env.agents.policies import draw_action
from routing_env.agents.rules import certainty
from routing_env.names import as_integer, is_number, require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Decision, GameSpec, State, Trace


@dataclass(eq=False, kw_only=True)
class RouteHedge(PolicyRouter):
    """Exponential weights over whole routes, one learner per task, all of which start on the same route.

    A column is a route through the n-th block of every layer, with PASS where it is legal. At first every task prefers
    the first column, so all tasks share. A share of the lanes explores the other columns, and after every deal the game
    reports the loss that each column would have given the same lanes. A task moves to the column that classifies its
    samples best, so tasks that need different functions part, and those that profit from sharing stay together. From a
    random start, tasks that could share begin apart, and each of them learns its own block well enough to stay there.

    Exponential weights with full information are Freund & Schapire's Hedge (JCSS 1997); the discount, which lets a
    learner follow changing blocks, is that of Cesa-Bianchi & Lugosi (2006, section 2.11). The evidence for a column is
    the probability exp(-loss) that the network gives to the right class. The loss itself is unbounded, and by it routes
    with nearly uniform predictions would win before anything has been learned.

    With ``copies`` the blocks of each layer are divided into that many equal parts. Deals are played within one part
    after another in turn, and a greedy evaluation averages the predictions of all parts.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {
        "rate": Choices((10.0, 20.0, 50.0, 100.0)),
        "memory": Choices((20.0, 50.0, 200.0)),
        "least": Choices((0.005, 0.02, 0.05)),
    }

    rate: float = 20.0
    """Rate of the exponential weights."""
    memory: float = 50.0
    """Samples of a task over which evidence is averaged."""
    bonus: float = 0.1
    """Evidence in favour of the first column at the start; it fades as a task's samples exceed ``memory``."""
    explore: float = 0.3
    """Share of a task's lanes that explore at the start."""
    least: float = 0.005
    """Share of a task's lanes that explore at the end."""
    anneal: int = 1000
    """Samples of a task over which exploration falls from ``explore`` to ``least``."""
    passes: bool = True
    """Whether routes PASS wherever that is legal; otherwise they apply a block wherever one is legal."""
    own_last: bool = False
    """Whether each task has a block of the last layer to itself."""
    copies: int = 1
    """Parts into which the blocks of each layer are divided."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("above 0", "rate", "anneal")
        require("memory", self.memory, is_number(self.memory) and self.memory >= 1, "at least 1")
        self.check_numbers("at least 0", "bonus")
        self.check_numbers("in [0, 1]", "explore", "least")
        require("copies", self.copies, (as_integer(self.copies) or 0) >= 1, "an integer of at least 1")
        if self.agents > 1 and self.spec.agents is not None:
            raise ValueError(
                f"{self.spec.agents} agents share the tasks; route-hedge chooses whole routes itself and cannot be "
                "dispatched: use topology='per_task' or 'single'"
            )
        sizes = [len(layer) // self.copies for layer in self.spec.layers if self.spec.pass_action not in layer]
        if self.own_last:
            blocks, tasks = len(self.spec.layers[-1]), self.spec.tasks
            require("own_last", True, blocks >= tasks, f"off, as the last layer has {blocks} blocks for {tasks} tasks")
            must = f"at most {blocks // tasks}, or own_last must be off"
            require("copies", self.copies, sizes.pop() >= tasks, f"{must}: the last layer has too few blocks")
        require("copies", self.copies, min(sizes, default=1) >= 1, "at most the number of blocks of each layer")
        self.columns = max(sizes, default=1)
        device = self.spec.device
        self.evidence = torch.zeros(self.agents, self.columns, device=device)
        self.counts = torch.zeros(self.agents, device=device)
        self.legal = torch.zeros_like(self.spec.legal)  # in the last deal
        self.deals = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def asks_for_routes(self) -> bool:
        """Whether there are several columns."""
        return self.columns > 1

    def weights(self) -> Tensor:
        """The exploring policy over the columns, float32 [agents, C]."""
        favoured = torch.zeros_like(self.evidence)
        favoured[:, 0] = self.bonus * self.memory / (self.memory + self.counts)
        policy = (self.rate * (self.evidence + favoured)).softmax(1)
        explore = self.explore + (self.least - self.explore) * (self.counts / self.anneal).clamp_max(1)
        return torch.lerp(policy, torch.full_like(policy, 1 / self.columns), explore[:, None])

    @torch.no_grad()
    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Draw a column for each lane at the first depth, and follow it from there on.

        ``Decision.agent`` names the column, counted over all copies; the first copy is for greedy decisions.
        """
        column = state.agent
        if column is None and greedy:
            column = self.evidence.argmax(1)[self._agent(state.task)]
        elif column is None:
            drawn = draw_action(self.weights()[self._agent(state.task)], self.generator)
            column = self._copy * self.columns + drawn
        return Decision(self._action(state, column), None if greedy else self.probability(state), agent=column)

    def probability(self, state: State) -> Tensor:
        """The policy over actions that follows from that over columns, or from the lane's column once it is drawn."""
        if state.agent is not None:
            return certainty(self._action(state, state.agent), state.legal)
        weights = self.weights()[self._agent(state.task)]
        probability = torch.zeros(state.legal.shape, device=state.legal.device)
        for column, weight in zip(self._columns(state.task), weights.unbind(1), strict=True):
            probability.scatter_add_(1, self._action(state, column)[:, None], weight[:, None])
        return probability

    def preference(self, state: State) -> Tensor:
        """1 for the action of the task's best column, float32 [B, A]."""
        return certainty(self._action(state, self.evidence.argmax(1)[self._agent(state.task)]), state.legal)

    def mixture(self, task: Tensor) -> tuple[Tensor, Tensor] | None:
        """The best column of every copy with equal weights; None for one copy, or before anything has been played."""
        if self.copies == 1 or not self.legal.any():
            return None
        best, lanes = self.evidence.argmax(1)[self._agent(task)], len(task)
        routes = [self._route(task, copy * self.columns + best) for copy in range(self.copies)]
        return torch.stack(routes), torch.full((self.copies, lanes), 1 / self.copies, device=task.device)

    def other_routes(self, trace: Trace) -> Tensor | None:
        """The columns of this deal's copy, int64 [C, B, D]; None where there is nothing to choose."""
        self.legal.copy_(torch.stack([state.legal.any(0) for state in trace.states]))
        if self.columns == 1:
            return None
        return torch.stack([self._route(trace.task, column) for column in self._columns(trace.task)])

    def learn(self, trace: Trace) -> dict[str, float]:
        """Learn from what every column would have cost; where the trace does not say it, from the routes taken.

        Raises:
            ValueError: The decisions do not say which columns were followed, as for the part of a per-layer router.
        """
        if trace.route_outcomes is None and trace.decisions[0].agent is None:
            raise ValueError(
                "the decisions do not name the columns that were followed (Decision.agent), so there is nothing to "
                "learn from; let route-hedge route whole routes by itself"
            )
        told = self.learn_captured(trace)
        return super().learn(trace) | {name: float(value) for name, value in told.items()}

    def learn_captured(self, trace: Trace, *plan: Tensor) -> Mapping[str, Tensor]:
        """Average the evidence of a deal into the tables; a loss is that after the step of the blocks."""
        if trace.route_outcomes is None:
            loss = trace.final_reward.new_full((len(trace.task), self.columns), torch.nan)
        else:
            loss = trace.route_outcomes.loss.t().clone()
        agent = self._agent(trace.task)
        if (own := trace.decisions[0].agent) is not None:  # its loss from before the step is known, as of the others
            loss.scatter_(1, own[:, None] % self.columns, trace.outcome.loss[:, None])
        known = ~loss.isnan()
        number, total = torch.zeros_like(self.evidence), torch.zeros_like(self.evidence)
        number.index_add_(0, agent, known.float())
        total.index_add_(0, agent, (-loss).exp().where(known, 0.0).to(total.dtype))
        kept = (1 - 1 / self.memory) ** number
        self.evidence.copy_(kept * self.evidence + (1 - kept) * total / number.clamp_min(1))
        self.counts.index_add_(0, agent, torch.ones_like(self.counts[agent]))
        self.deals += 1
        shared = torch.zeros_like(self.evidence[0]).scatter(0, self.evidence.argmax(1), 1.0)
        return {"columns": shared.sum()}

    def _agent(self, task: Tensor) -> Tensor:
        """The learner of each lane, int64 [B]: the task's, or the only one."""
        return undispatched_agent(task, self.spec)

    @property
    def _copy(self) -> Tensor:
        """The copy in which this deal is played, int64 []."""
        return self.deals % self.copies

    def _columns(self, task: Tensor) -> Tensor:
        """The columns of this deal's copy for every lane, int64 [C, B]."""
        columns = self._copy * self.columns + torch.arange(self.columns, device=task.device)
        return columns[:, None].expand(-1, len(task))

    def _action(self, state: State, column: Tensor) -> Tensor:
        """The action of each lane's column, int64 [B]."""
        blocks, passes = state.legal, self.spec.pass_action
        if passes is not None:
            blocks = blocks & (torch.arange(self.spec.actions, device=blocks.device) != passes)
        number = blocks.sum(1)
        part = (number // self.copies).clamp_min(1)
        place = state.task if self.own_last and state.depth == self.spec.depth - 1 else column % self.columns
        wanted = (column // self.columns * part + place % part).clamp_max(number - 1)
        action = (blocks & (blocks.cumsum(1) == wanted[:, None] + 1)).int().argmax(1)
        if passes is None:
            return action
        return action.masked_fill(state.legal[:, passes] & (self.passes | (number == 0)), passes)

    def _route(self, task: Tensor, column: Tensor) -> Tensor:
        """The whole route of each lane's column where the same is legal as in the last deal, int64 [B, D]."""
        legal = self.legal[:, None].expand(-1, len(task), -1)
        nothing = torch.empty(len(task), 0, device=task.device)
        states = [State(nothing, task, depth, legal[depth]) for depth in range(self.spec.depth)]
        return torch.stack([self._action(state, column) for state in states], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """As the base, with the evidence."""
        tables = {"evidence": self.evidence.clone(), "counts": self.counts.clone(), "legal": self.legal.clone()}
        return {**super().state_dict(), **tables, "deals": int(self.deals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`."""
        super().load_state_dict(state)
        for name in ("evidence", "counts", "legal"):
            getattr(self, name).copy_(state[name])
        self.deals.fill_(state["deals"])

    def grow(self, spec: GameSpec) -> Self:
        """As the base, with the evidence of the known tasks."""
        grown = super().grow(spec)
        grown.evidence[: len(self.evidence)] = self.evidence
        grown.counts[: len(self.counts)] = self.counts
        grown.legal.copy_(self.legal)
        grown.deals.copy_(self.deals)
        return grown
