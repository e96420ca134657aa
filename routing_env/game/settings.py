"""The settings of a game, in one place: keyword arguments of the environments, options of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GameConfig:
    """Settings of a routing game. None stands for the data set's own recipe."""

    data: str = "digits"
    """Data set, see `routing-env list`."""
    data_dir: str | None = None
    """Folder that holds the data set's files; by default the environment variable ROUTING_ENV_DATA, else ./data."""
    validation: float = 0.1
    """Share of the training inputs kept aside for choices; 0 trains on everything, as the paper does."""
    fraction: float = 1.0
    """Share of each task's training samples that is used, cut by the seed; validation and test stay whole."""
    tasks: int | None = None
    """Use only the first so many tasks of the data set; by default all."""
    network: Literal["mlp", "simple_convnet"] | None = None
    """Fully connected layers only, or the paper's four convolutions under them."""
    hidden: int | None = None
    """Width between routed layers."""
    layers: int | None = None
    """Routed layers; by default three, as in the paper (`planted`: one)."""
    blocks: int | None = None
    """Blocks per layer; by default one per task, as in the paper, or one per group where the data know groups."""
    recursive: bool = False
    """Let any block but the last layer's apply at any depth but the last (paper, section 7.2)."""
    pass_action: bool = False
    """Add the PASS action, which leaves the representation as it is (paper, section 7.2)."""
    depth: int | None = None
    """Decisions per sample, in a recursive game; by default the number of layers."""
    final_reward: Literal["correct", "negative_loss"] | None = None
    """+1/-1 for right and wrong, or the negative loss; by default the first for classes, the second for regression."""
    rho: float | tuple[float, ...] | None = None
    """Weight of the collaboration reward, in [0, 1]; several numbers give each depth its own."""
    collaboration: Literal["probability", "count"] = "probability"
    """What the collaboration reward averages: the probability of a block, or how often it was chosen."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Optimiser of the blocks."""
    learning_rate: float | None = None
    """Learning rate of the blocks."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """Weight decay of the blocks."""
    decay_every: int = 20
    """Epochs between decays of the learning rate; 0 never decays."""
    decay_factor: float = 0.1
    """What a decay multiplies the learning rate by."""
    batch_size: int | None = None
    """Samples routed and trained on together."""
    block_batch: int | None = None
    """Collect this many routed samples before the blocks take a step; by default every deal is a step."""
    device: str = "cpu"
    """Where the game runs: cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of the whole world: weights, order of the data, validation cut, router."""

    def __post_init__(self) -> None:
        if isinstance(self.rho, list):  # JSON has no tuples.
            object.__setattr__(self, "rho", tuple(self.rho))
