"""Small networks with one oddity each, as users bring them; each takes `[N, 3, 8, 8]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Base(nn.Module):
    """A convolution with weights that do not change from run to run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-0.5, 0.6, parameter.numel()).reshape(parameter.shape))

    def features(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.features(x)


class Normed(Base):
    """With batch norm and dropout, both of which know training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        return self.drop(self.norm(self.conv(x))).amax((2, 3))


class Stubborn(Normed):
    """Its batch norm stays in training mode, whatever eval() asks."""

    def train(self, mode: bool = True) -> Stubborn:
        super().train(mode)
        self.norm.training = True
        return self


class Branch(Base):
    """Takes another way for bright pictures; can be compiled."""

    def forward(self, x: Tensor) -> Any:
        y = self.features(x)
        if y.mean() > 0.3:
            return y * 2
        return y - 1


class Hopeless(Base):
    """Takes another way for bright pictures, in Python that cannot be compiled."""

    def forward(self, x: Tensor) -> Any:
        y = self.features(x)
        if y.mean() > 0.3:
            return y + sum(map(len, ("ab", "c")))
        return y


class Unsupported(Base):
    """Uses an operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Any:
        return torch.linalg.eigvals(self.conv(x).mean(1)).real


class Types(Base):
    """Multiplies float32 by float64."""

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x).flatten(2)
        return torch.matmul(y, y.transpose(1, 2).double())


class Mutating(Base):
    """Writes into its input."""

    def forward(self, x: Tensor) -> Any:
        return self.features(x.mul_(2))


class Counting(Base):
    """Answers otherwise every time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        self.runs += 1
        return self.features(x) + self.runs


class Together(Base):
    """Normalises over the batch."""

    def forward(self, x: Tensor) -> Any:
        return functional.batch_norm(self.conv(x), None, None, training=True).amax((2, 3))


class Lone(Base):
    """Takes one frame only."""

    def forward(self, x: Tensor) -> Any:
        return self.features(x).reshape(1, 4)


class Selected(Base):
    """Gives as many rows as it finds."""

    def forward(self, x: Tensor) -> Any:
        return torch.nonzero(x > 0.5)


class Two(Base):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.features(x) + y


class Grey(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.conv(x)


class Nested(Base):
    """Gives a dictionary with a list in it, and what is no tensor."""

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return {"pred_logits": y.mean((2, 3)), "aux": [{"pred_boxes": y.amax((2, 3))}, None], "count": 3}


@dataclass
class Found:
    logits: Tensor
    boxes: Tensor
    loss: Tensor | None = None


class Data(Base):
    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return Found(y.mean((2, 3)), y.amin((2, 3)))


class Words(Base):
    def forward(self, x: Tensor) -> Any:
        return "a cat"


def half() -> nn.Module:
    return Normed().half()


def broken() -> nn.Module:
    return Base(int("four"))  # type: ignore[call-arg]


def number() -> int:
    return 4


ready = Base()
