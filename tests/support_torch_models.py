"""Networks in plain PyTorch for tests and the bench: ResNet-50, a detector of the YOLO family, and small ones.

All are seeded, in evaluation mode, and settled: their batch norms have seen pictures, so that activations keep their
scale through all layers and outputs differ from picture to picture, as a trained network's do. They can be exported,
traced and scripted. Nothing here knows of this project: they stand for what a user brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

_LAYERS_50 = (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """ResNet's block of three convolutions; the stride stands in the 3x3 one (v1.5)."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """ResNet v1.5 with bottlenecks (He et al. 2015, stride as in torchvision): `[N, 3, H, W]` to logits `[N, classes]`.

    With the names of torchvision's parameters, so that its state dicts fit.
    """

    def __init__(self, classes: int, layers: tuple[int, ...] = _LAYERS_50, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for number, blocks in enumerate(layers):
            planes = width << number
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(Bottleneck(inputs, planes, 2 if block == 0 and number > 0 else 1))
                inputs = 4 * planes
            self.add_module(f"layer{number + 1}", stage)
        self.fc = nn.Linear(inputs, classes)

    def features(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def resnet50(num_classes: int = 1000) -> nn.Module:
    """ResNet-50 for 224x224 pictures, 25.6 M parameters with 1000 classes; takes ImageNet's mean and deviation."""
    return _resnet(num_classes, _LAYERS_50, 64, 128)


def tiny_resnet(num_classes: int = 10) -> nn.Module:
    """A ResNet of the same kind for 32x32 pictures, 0.1 M parameters."""
    return _resnet(num_classes, (1, 1, 1, 1), 8, 32)


def _resnet(classes: int, layers: tuple[int, ...], width: int, side: int) -> nn.Module:
    def settle(model: ResNet, images: Tensor) -> None:
        # Logits about zero that differ between pictures: without this all pictures share one winner.
        model.fc.weight.mul_(2.5 / model(images).std(0).mean())
        model.fc.bias.copy_(-model(images).mean(0))

    return _made(lambda: ResNet(classes, layers, width), side, settle)


class ConvBlock(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Two 3x3 blocks, with or without the sum."""

    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.cv1 = ConvBlock(channels, channels)
        self.cv2 = ConvBlock(channels, channels)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class Split(nn.Module):
    """A cross-stage block that concatenates all its steps (YOLOv8's C2f)."""

    def __init__(self, inputs: int, outputs: int, blocks: int, add: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = ConvBlock(inputs, 2 * half, 1)
        self.cv2 = ConvBlock((2 + blocks) * half, outputs, 1)
        self.m = nn.ModuleList(Residual(half, add) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """Three max pools one after the other, concatenated (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = ConvBlock(channels, channels // 2, 1)
        self.cv2 = ConvBlock(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        one = functional.max_pool2d(x, 5, 1, 2)
        two = functional.max_pool2d(one, 5, 1, 2)
        return self.cv2(torch.cat([x, one, two, functional.max_pool2d(two, 5, 1, 2)], 1))


class Neck(nn.Module):
    """Top-down, then bottom-up fusion of three scales (FPN and PAN)."""

    def __init__(self, p3: int, p4: int, p5: int, blocks: int) -> None:
        super().__init__()
        self.top4 = Split(p4 + p5, p4, blocks, add=False)
        self.top3 = Split(p3 + p4, p3, blocks, add=False)
        self.down3 = ConvBlock(p3, p3, 3, 2)
        self.low4 = Split(p3 + p4, p4, blocks, add=False)
        self.down4 = ConvBlock(p4, p4, 3, 2)
        self.low5 = Split(p4 + p5, p5, blocks, add=False)

    def forward(self, x3: Tensor, x4: Tensor, x5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y4 = self.top4(torch.cat([functional.interpolate(x5, scale_factor=2.0), x4], 1))
        y3 = self.top3(torch.cat([functional.interpolate(y4, scale_factor=2.0), x3], 1))
        z4 = self.low4(torch.cat([self.down3(y3), y4], 1))
        return y3, z4, self.low5(torch.cat([self.down4(z4), x5], 1))


class Decoupled(nn.Module):
    """One scale of the anchor-free head: distributions of the four distances, and class logits."""

    def __init__(self, inputs: int, box: int, cls: int, bins: int, classes: int) -> None:
        super().__init__()
        self.box = nn.Sequential(ConvBlock(inputs, box), ConvBlock(box, box), nn.Conv2d(box, 4 * bins, 1))
        self.cls = nn.Sequential(ConvBlock(inputs, cls), ConvBlock(cls, cls), nn.Conv2d(cls, classes, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(x).flatten(2), self.cls(x).flatten(2)


class TinyYolo(nn.Module):
    """An anchor-free detector as YOLOv8 exports it: RGB `[N, 3, H, W]` in 0..1 to `[N, 4 + C, A]`.

    Rows 0..3 are centre x, centre y, width, height in input pixels, the others scores after their sigmoid; the anchors
    are the cells of strides 8, 16 and 32, row by row. H and W are multiples of 32.

    Args:
        classes: Number of classes, C.
        width: Factor on YOLOv8-l's channels (64 at the stem).
        depth: Factor on its numbers of blocks (3 and 6).
        bins: Steps of each distance's distribution.
    """

    def __init__(self, classes: int = 3, width: float = 0.125, depth: float = 0.1, bins: int = 8) -> None:
        super().__init__()
        stem, p2, p3, p4, p5 = (max(8, 8 * round(channels * width / 8)) for channels in (64, 128, 256, 512, 512))
        few, many = max(1, round(3 * depth)), max(1, round(6 * depth))
        self.bins = bins
        self.stage2 = nn.Sequential(ConvBlock(3, stem, 3, 2), ConvBlock(stem, p2, 3, 2), Split(p2, p2, few, add=True))
        self.stage3 = nn.Sequential(ConvBlock(p2, p3, 3, 2), Split(p3, p3, many, add=True))
        self.stage4 = nn.Sequential(ConvBlock(p3, p4, 3, 2), Split(p4, p4, many, add=True))
        self.stage5 = nn.Sequential(ConvBlock(p4, p5, 3, 2), Split(p5, p5, few, add=True), PyramidPool(p5))
        self.neck = Neck(p3, p4, p5, few)
        box, cls = max(16, p3 // 4, 4 * bins), max(p3, min(classes, 100))
        self.head3 = Decoupled(p3, box, cls, bins, classes)
        self.head4 = Decoupled(p4, box, cls, bins, classes)
        self.head5 = Decoupled(p5, box, cls, bins, classes)

    def raw(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        x3 = self.stage3(self.stage2(images))
        x4 = self.stage4(x3)
        y3, y4, y5 = self.neck(x3, x4, self.stage5(x4))
        return [self.head3(y3), self.head4(y4), self.head5(y5)]

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2], images.shape[3]
        parts = []
        stride = 8
        for box, logits in self.raw(images):
            x, y = self.centres(height // stride, width // stride)
            bins = box.reshape(box.shape[0], 4, self.bins, box.shape[2]).softmax(2)
            steps = torch.arange(self.bins, dtype=box.dtype, device=box.device).reshape(1, 1, -1, 1)
            left, top, right, bottom = (bins * steps).sum(2).unbind(1)
            boxes = torch.stack([x + (right - left) / 2, y + (bottom - top) / 2, left + right, top + bottom], 1)
            parts.append(torch.cat([boxes * stride, logits.sigmoid()], 1))
            stride *= 2
        return torch.cat(parts, 2)

    def centres(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Centres of a grid's cells, x and y, in cells, row by row."""
        x = torch.arange(columns, dtype=torch.float32) + 0.5
        y = torch.arange(rows, dtype=torch.float32) + 0.5
        return x.repeat(rows), y.reshape(-1, 1).repeat(1, columns).flatten()


def tiny_yolo(classes: int = 3) -> nn.Module:
    """A detector for pictures of 64x64 and more, 0.4 M parameters."""
    return _made(lambda: TinyYolo(classes), 64, _settle_yolo)


def yolo_s(classes: int = 80) -> nn.Module:
    """A detector of a size that is served: 3.9 M parameters, for 640x640 or 416x416."""
    return _made(lambda: TinyYolo(classes, width=0.375, depth=0.34, bins=16), 416, _settle_yolo)


def _settle_yolo(model: TinyYolo, images: Tensor) -> None:
    """Make boxes of some cells' size, and let about one in a hundred scores exceed 0.5."""
    for head, (box, logits) in zip((model.head3, model.head4, model.head5), model.raw(images), strict=True):
        head.box[-1].weight.mul_(1.5 / box.std())
        head.box[-1].bias.copy_(torch.arange(model.bins).repeat(4) * -0.4)
        head.cls[-1].weight.mul_(1.5 / logits.std())
        head.cls[-1].bias.copy_(-4.0 - logits.mean((0, 2)) * 1.5 / logits.std())


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """Draw smooth coloured pictures with edges: `float32 [count, 3, side, side]`, in 0..1."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=random)
    fine = torch.rand(count, 3, side // 4, side // 4, generator=random)
    smooth = functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)
    edges = functional.interpolate(fine, (side, side))
    return (0.7 * smooth + 0.3 * edges).clamp(0, 1)


def _made(build: Callable[[], nn.Module], side: int, finish: Callable[[nn.Module, Tensor], None]) -> nn.Module:
    """Build, seed and settle a network; the caller's random numbers are not touched."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain mean over all batches
                nn.init.uniform_(module.weight, 0.6, 1.2)
                nn.init.uniform_(module.bias, -0.3, 0.3)
        images = pictures(16, side)
        if isinstance(model, ResNet):
            images = (images - 0.45) / 0.225
        model.train()(images)
        model.eval()
        finish(model, images)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
    return model
