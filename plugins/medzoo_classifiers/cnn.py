"""The network of `cnn`: three convolutions with batch normalization, three dense layers (study C)."""

from __future__ import annotations

from torch import Tensor, nn

from medzoo_classifiers.settings import CNNSettings


class CNN(nn.Module):
    """Class logits (N, K) of images (N, C, side, side); features are the output of the second dense layer."""

    def __init__(self, settings: CNNSettings, *, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for width in settings.block_out_channels:
            layers += [
                nn.Conv2d(before, width, settings.kernel_size, padding=settings.kernel_size // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.MaxPool2d(2),  # before the ReLU, with which it commutes, because that is then a quarter of the work
                nn.ReLU(),
            ]
            before = width
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(settings.pool_size), nn.Flatten())
        first, second = settings.hidden_dims
        self.dense = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(before * settings.pool_size**2, first),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(first, second),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(second, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits (N, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the features before the last layer, (N, D)."""
        features: Tensor = self.dense(self.convolutions(images))
        return features
