"""Routed layers in your own training loop, without the game: a convnet whose fully connected layers are all routed.

Five tasks tell two digits apart each. Two routers are trained side by side: an agent per task (paper, Figure 3b), and a
dispatcher that picks an agent for each sample (Figure 3c). Run it: ``python examples/your_own_loop.py``
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from routing_env.agents import TopologyName, make_router
from routing_env.data.digits import digit_images
from routing_env.game.blocks import BlockBank
from routing_env.game.choices import Choice
from routing_env.game.routed_model import RoutedModel, Walk


class Net(RoutedModel):
    """A convolution and three routed layers."""

    def __init__(self, outputs: int, blocks: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.first = BlockBank(nn.Sequential(nn.Linear(144, width), nn.ReLU()) for _ in range(blocks))
        self.second = BlockBank(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks))
        self.last = BlockBank(nn.Linear(width, outputs) for _ in range(blocks))

    def route(self, x: Tensor, task: Tensor) -> Walk:
        """Where a block is chosen."""
        v = yield Choice(self.first, self.stem(x))
        return (yield Choice(self.last, (yield Choice(self.second, v))))


def main(topology: TopologyName, epochs: int = 8) -> None:
    """Train, and print the accuracy on samples that were held out."""
    torch.manual_seed(0)
    images, digits = digit_images()
    samples = TensorDataset(images / 16, digits // 2, digits % 2)  # x, task, target
    train, held_out = random_split(samples, [0.8, 0.2])
    model = Net(outputs=2, blocks=5)
    router = make_router("wpl", model.spec(tasks=5, input_shape=(1, 8, 8)), seed=0, topology=topology)
    groups, rates = model.parameter_groups(), {"blocks": 0.1, "rest": 0.03}
    optimizer = torch.optim.SGD([{"params": groups[name], "lr": rate} for name, rate in rates.items()], momentum=0.5)
    for epoch in range(epochs):
        for x, task, target in DataLoader(train, batch_size=32, shuffle=True):
            output, route = model.train()(x, task, router)
            optimizer.zero_grad()
            cross_entropy(output, target).backward()
            optimizer.step()
            router.learn(route.score(reward=(output.argmax(1) == target) * 2.0 - 1))
        x, task, target = held_out[:]
        right = model.eval()(x, task, router)[0].argmax(1) == target  # in evaluation mode the router is greedy
        print(f"{topology}, epoch {epoch + 1}: accuracy {right.float().mean():.1%}")


if __name__ == "__main__":
    main("per_task")
    main("dispatched")
