"""What torchvision's references share: their training loop, and the weights that both sides start from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torchvision.models.mobilenetv2 import MobileNetV2 as TorchvisionMobileNetV2

from mbdet.backbones import MobileNetV2
from mbdet.metrics.base import Evaluator, Metrics
from mbdet.weights import load_backbone_weights


class Recipe(NamedTuple):
    """How the weights move."""

    optimizer: Optimizer
    each_step: LRScheduler
    each_epoch: LRScheduler | None


class Reference(ABC):
    """A model of torchvision's, with the data and the recipe that it is trained by.

    Args:
        model: The network.
        train_batches: What `loss` takes.
        val_batches: What `collect` takes.
        evaluator: Of the validation split, ours.

    Attributes:
        name: What torchvision calls the model.
        figures: Names of the metrics that a training logs.
    """

    name: ClassVar[str]
    figures: ClassVar[tuple[str, ...]]

    def __init__(
        self, model: nn.Module, train_batches: DataLoader[Any], val_batches: DataLoader[Any], evaluator: Evaluator[Any]
    ) -> None:
        self.model, self.evaluator = model, evaluator
        self.train_batches, self.val_batches = train_batches, val_batches

    @abstractmethod
    def recipe(self, epochs: int) -> Recipe:
        """Return the optimiser and schedule of a training of so many epochs."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Return the loss of a training batch."""

    @abstractmethod
    def collect(self, batch: Any) -> None:
        """Give what is found in a validation batch to the evaluator."""

    def train(self, epochs: int) -> Iterator[list[float]]:
        """Train, with the steps of torchvision's `train_one_epoch`.

        Args:
            epochs: For how long.

        Yields:
            The losses of the steps of one epoch.
        """
        recipe = self.recipe(epochs)
        for _ in range(epochs):
            self.model.train()
            losses = []
            for batch in self.train_batches:
                loss = self.loss(batch)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    raise RuntimeError(f"the reference's loss is {losses[-1]}")
                recipe.optimizer.zero_grad()
                torch.autograd.backward(loss)
                recipe.optimizer.step()
                recipe.each_step.step()
            if recipe.each_epoch is not None:
                recipe.each_epoch.step()
            yield losses

    @torch.inference_mode()
    def score(self) -> Metrics:
        """Score the model with our evaluator on the validation split."""
        self.model.eval()
        self.evaluator.collected.clear()
        for batch in self.val_batches:
            self.collect(batch)
        return self.evaluator.compute()


def imagenet_trunk(weights: str) -> TorchvisionMobileNetV2:
    """Build torchvision's MobileNetV2 with the features of ours.

    Args:
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """
    ours = MobileNetV2()
    load_backbone_weights(ours, weights)
    trunk = TorchvisionMobileNetV2()
    # Both list their layers from the image on, so the order alone maps one to the other.
    values = [value for name, value in ours.state_dict().items() if not name.startswith("normalize.")]
    trunk.features.load_state_dict(dict(zip(trunk.features.state_dict(), values, strict=True)))
    return trunk
