"""Recurrent networks whose cells are chosen: at every time step, or once for a whole sequence.

A sample is a sequence [steps, features], padded with trailing steps of zeros, or an image of one channel, whose rows
are the steps. :func:`sequence_lengths` tells steps from padding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from routing_env.game.blocks import BlockBank, Representation, map_tensors, tensors_of
from routing_env.game.choices import Choice
from routing_env.game.routed_model import RoutedModel, Walk
from routing_env.game.settings import Settings, check

Decide = Literal["step", "sequence"]


class RoutedRecurrentNetwork(RoutedModel):
    """Layers of recurrent cells, one of which is chosen per lane, and a linear head on the last hidden state.

    A decision picks one of K cells for a lane, at every step and layer (``decide="step"``) or for the whole sequence at
    every layer (``decide="sequence"``). With one cell per layer the network equals torch's recurrent network. Lanes
    whose sequence has ended keep their state, and can only PASS.

    Routers see the input of the layer and the state of its cell at this step; where they decide for a whole sequence,
    they see the layer's input at all steps.

    Args:
        input_shape: Shape of one sample, (steps, features) or (1, steps, features).
        outputs: O.
        blocks: K, cells per layer.
        hidden: H, width of the hidden state.
        layers: Stacked layers; each takes the hidden states of the one before.
        decide: "step" or "sequence".
        separate_maps: Whether the input-to-hidden and the hidden-to-hidden map are chosen separately, by two decisions
            per step and layer; only where decisions fall at every step.

    Raises:
        ValueError: Samples are not sequences, or an argument is out of range.
    """

    head: nn.Linear

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        blocks: int,
        *,
        hidden: int = 64,
        layers: int = 1,
        decide: Decide = "step",
        separate_maps: bool = False,
    ) -> None:
        super().__init__()
        check({"blocks": blocks, "hidden": hidden, "layers": layers}, Settings)
        if decide not in ("step", "sequence"):
            raise ValueError(f"decide is {decide!r}; it must be 'step' or 'sequence'")
        if separate_maps and decide == "sequence":
            raise ValueError("separate_maps needs decide='step'; a whole sequence is served by one cell")
        self.steps, self.width = steps_and_features(input_shape)
        self.blocks, self.hidden, self.layers = blocks, hidden, layers
        self.decide: Decide = decide
        self.separate_maps = separate_maps
        widths = [self.width, *[hidden] * (layers - 1)]
        if separate_maps:
            self.input_maps = self._banks(lambda width: nn.Linear(width, self._gates * hidden), widths)
            self.hidden_maps = self._banks(lambda width: nn.Linear(width, self._gates * hidden), [hidden] * layers)
            for parameter in self.parameters():  # as in torch's cells
                nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)
        elif decide == "step":
            self.cells = self._banks(lambda width: self._cell(width, hidden), widths)
        else:
            self.cells = self._banks(lambda width: _WholeSequence(self._network(width, hidden)), widths)
        self.head = nn.Linear(hidden, outputs)
        self.max_depth = None if decide == "sequence" else self.steps * layers * (1 + separate_maps)
        self.spec(1, input_shape=input_shape)

    @classmethod
    def from_settings(
        cls,
        input_shape: Sequence[int],
        outputs: int,
        blocks: int | Sequence[int],
        *,
        hidden: int,
        layers: int,
        recursive: bool,
        pass_action: bool,
        depth: int,
        dropout: float,
    ) -> Self:
        """Build the network that settings describe; ``depth`` says where decisions fall.

        Args:
            input_shape: Shape of one sample.
            outputs: O.
            blocks: Cells per layer, one number for all layers.
            hidden: Width of the hidden state.
            layers: Stacked layers.
            recursive: Refused.
            pass_action: Refused; only sequences that have ended PASS.
            depth: ``layers`` for a decision per sequence, ``steps * layers`` for one per step, and twice as many for
                separate maps.
            dropout: Refused; there is no stem.

        Raises:
            ValueError: A setting that these networks do not have, or another depth.
        """
        for name, value in (("recursive", recursive), ("pass_action", pass_action), ("dropout", dropout)):
            if value:
                raise ValueError(f"{name} is {value}; {cls.__name__} has no such variant: leave it out")
        if not isinstance(blocks, int):
            raise ValueError(f"blocks is {tuple(blocks)}; {cls.__name__} takes one number for all of its layers")
        steps, _ = steps_and_features(input_shape)
        if depth not in (layers, steps * layers, 2 * steps * layers):
            raise ValueError(
                f"depth is {depth}; {cls.__name__} over {steps} steps and {layers} layer{'s' * (layers > 1)} decides "
                f"{steps * layers} times (per step, the default), {layers} (per sequence) or {2 * steps * layers} "
                "(separately for the input-to-hidden and the hidden-to-hidden map)"
            )
        return cls(
            input_shape,
            outputs,
            blocks,
            hidden=hidden,
            layers=layers,
            decide="sequence" if depth == layers and steps > 1 else "step",
            separate_maps=depth == 2 * steps * layers,
        )

    def route(self, x: Tensor | PackedSequence, task: Tensor) -> Walk:
        """The way of a batch through the network.

        Args:
            x: float [B, *input_shape]; in your own loop also [B, fewer steps, features], or a ``PackedSequence``.
            task: int64 [B].

        Raises:
            ValueError: Sequences with more steps or another number of features than the network was built for.
        """
        sequences, lengths = self._sequences(x)
        legal = torch.ones(self.blocks, dtype=torch.bool, device=task.device)  # given: one cell is a choice, too
        if self.decide == "sequence":
            for bank in self.cells:
                sequences = yield Choice(cast(BlockBank, bank), (sequences, lengths), legal, observed=sequences)
            return self.head(sequences[torch.arange(len(task), device=task.device), lengths - 1])
        v = sequences.new_zeros(len(task), self.hidden)
        states = [self._initial(v) for _ in range(self.layers)]
        shortest, longest = int(lengths.min()), int(lengths.max())
        for step in range(longest):
            v, active = sequences[:, step], None if step < shortest else step < lengths
            for layer in range(self.layers):
                states[layer] = yield from self._advance(layer, v, states[layer], legal, active)
                v = tensors_of(states[layer])[0]
        return self.head(v)

    _gates: int
    """Vectors of width H that a map gives."""

    @abstractmethod
    def _cell(self, width: int, hidden: int) -> nn.Module:
        """A cell from inputs [n, width] and a state to the next state."""
        ...

    @abstractmethod
    def _network(self, width: int, hidden: int) -> nn.RNNBase:
        """A cell that runs through whole sequences."""
        ...

    @abstractmethod
    def _initial(self, zeros: Tensor) -> Representation:
        """The state before the first step; its first tensor is the hidden state."""
        ...

    @abstractmethod
    def _combine(self, inputs: Tensor, hidden: Tensor, state: Representation) -> Representation:
        """The next state from what the two maps give, each [B, gates * H]."""
        ...

    def _advance(
        self, layer: int, v: Tensor, state: Representation, legal: Tensor, active: Tensor | None
    ) -> Generator[Choice, Any, Representation]:
        """One step of one layer; lanes that are not active keep their state."""
        if not self.separate_maps:
            cells = cast(BlockBank, self.cells[layer])
            return (yield Choice(cells, (v, state), legal, active, otherwise=state))
        seen, hidden = torch.cat([v, *tensors_of(state)], dim=1), tensors_of(state)[0]
        from_input = yield Choice(cast(BlockBank, self.input_maps[layer]), v, legal, active, observed=seen)
        from_hidden = yield Choice(cast(BlockBank, self.hidden_maps[layer]), hidden, legal, active, observed=seen)
        after = self._combine(from_input, from_hidden, state)
        if active is None:
            return after
        return map_tensors(lambda now, before: now.where(active[:, None], before), after, state)

    def _sequences(self, x: Tensor | PackedSequence) -> tuple[Tensor, Tensor]:
        """Sequences [B, steps, features] whose padding is zero, and their lengths int64 [B]."""
        if isinstance(x, PackedSequence):
            x, lengths = pad_packed_sequence(x, batch_first=True)
            lengths = lengths.to(x.device)
        else:
            x = x.flatten(1, 2) if x.dim() == 4 else x
            lengths = None
        if x.dim() != 3 or x.shape[1] > self.steps or x.shape[2] != self.width:
            raise ValueError(
                f"sequences have shape {list(x.shape[1:])}; the network takes at most {self.steps} steps of "
                f"{self.width} features"
            )
        lengths = sequence_lengths(x) if lengths is None else lengths
        there = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return x.where(there[:, :, None], 0.0), lengths

    def _banks(self, make: Any, widths: Sequence[int]) -> nn.ModuleList:
        return nn.ModuleList(BlockBank(make(width) for _ in range(self.blocks)) for width in widths)


class RoutedLSTM(RoutedRecurrentNetwork):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with routed cells; see RoutedRecurrentNetwork."""

    _gates = 4

    def _cell(self, width: int, hidden: int) -> nn.Module:
        return nn.LSTMCell(width, hidden)

    def _network(self, width: int, hidden: int) -> nn.RNNBase:
        return nn.LSTM(width, hidden, batch_first=True)

    def _initial(self, zeros: Tensor) -> Representation:
        return zeros, zeros

    def _combine(self, inputs: Tensor, hidden: Tensor, state: Representation) -> Representation:
        admit, forget, candidate, show = (inputs + hidden).chunk(4, dim=1)  # in the order of nn.LSTMCell
        c = forget.sigmoid() * state[1] + admit.sigmoid() * candidate.tanh()
        return show.sigmoid() * c.tanh(), c


class RoutedGRU(RoutedRecurrentNetwork):
    """Gated recurrent units (Cho et al. 2014) with routed cells; see RoutedRecurrentNetwork."""

    _gates = 3

    def _cell(self, width: int, hidden: int) -> nn.Module:
        return nn.GRUCell(width, hidden)

    def _network(self, width: int, hidden: int) -> nn.RNNBase:
        return nn.GRU(width, hidden, batch_first=True)

    def _initial(self, zeros: Tensor) -> Representation:
        return zeros

    def _combine(self, inputs: Tensor, hidden: Tensor, state: Representation) -> Representation:
        (reset, keep, new), (reset_h, keep_h, new_h) = inputs.chunk(3, dim=1), hidden.chunk(3, dim=1)
        keep = (keep + keep_h).sigmoid()
        return (1 - keep) * (new + (reset + reset_h).sigmoid() * new_h).tanh() + keep * state


class _WholeSequence(nn.Module):
    """A recurrent network from padded sequences and their lengths to the hidden states at all steps."""

    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """From float [n, steps, features] and int64 [n] to float [n, steps, H], zero behind the end."""
        packed = pack_padded_sequence(x, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.network(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def sequence_lengths(x: Tensor) -> Tensor:
    """The number of steps in front of the padding.

    Padding are the trailing steps whose features are all equal. That is how steps of zeros look after
    standardisation by one mean and deviation. A sequence has at least one step. With a single feature nothing can be
    told from padding, and all steps count.

    Args:
        x: float [B, steps, features].

    Returns:
        int64 [B].
    """
    steps = torch.arange(1, x.shape[1] + 1, device=x.device)
    if x.shape[2] == 1:
        return steps[-1].expand(len(x))
    return ((x != x[:, :, :1]).any(2) * steps).amax(1).clamp_min(1)


def steps_and_features(input_shape: Sequence[int]) -> tuple[int, int]:
    """The sizes of a sample that is a sequence.

    Raises:
        ValueError: It is none.
    """
    shape = tuple(input_shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1):
        raise ValueError(
            "recurrent networks take sequences (steps, features), or images of one channel as sequences of rows; a "
            f"sample has shape {shape}: use mlp instead"
        )
    return shape[-2], shape[-1]
