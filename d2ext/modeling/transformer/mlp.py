"""Multi-layer perceptrons: prediction heads and the feed-forward part of transformer layers."""

from collections.abc import Callable

from torch import Tensor, nn

from d2ext.modeling.transformer.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "prelu": nn.PReLU,  # one learned slope
}


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        in_channels, hidden_channels, out_channels: widths of the input, between layers, output.
        num_layers: number of linear layers.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int
    ) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        for layer in self.layers[:-1]:
            inputs = layer(inputs).relu()
        return self.layers[-1](inputs)


class FeedForward(nn.Module):
    """The feed-forward part of a transformer layer, without its residual and norm.

    Args:
        channels: width of input and output.
        hidden_channels: width between the two linear layers.
        dropout: rate after the activation and after the second layer.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(
        self, channels: int, hidden_channels: int, dropout: float, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.activation = ACTIVATIONS[activation]()
        self.linear2 = nn.Linear(hidden_channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., channels) -> (..., channels)."""
        hidden = self.linear1(inputs)
        if isinstance(self.activation, nn.ReLU):
            hidden = self.dropout.then_relu(hidden)
        else:
            hidden = self.dropout(self.activation(hidden))
        return self.dropout(self.linear2(hidden))
