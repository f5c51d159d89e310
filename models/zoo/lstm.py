"""An LSTM that reads a picture as a sequence of rows, https://doi.org/10.1162/neco.1997.9.8.1735.

With the forget gate of https://doi.org/10.1162/089976600300015015, open at the start of training
(https://proceedings.mlr.press/v37/jozefowicz15.html), and orthogonal recurrent weights, so that the first row is still
heard after the last. Any size is taken as it is: H steps of W * C numbers. Exports as ONNX's LSTM.
"""

import torch
from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_classic import LSTMConfig
from models.zoo.initial import classifier

# B batch, C channels, H height, W width, D width of the state, K classes


class LSTM(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: LSTMConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(image.width * image.channels, config.width, num_layers=config.depth, batch_first=True)
        start(self.cells)
        self.dropout = nn.Dropout(config.dropout)
        self.head = classifier(config.width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1).flatten(2)  # (B, H, W * C)
        _, (state, _) = self.cells(rows)  # (layers, B, D), after the last row
        logits: Tensor = self.head(self.dropout(state[-1]))
        return logits


@torch.no_grad()
def start(cells: nn.LSTM) -> None:
    """The four gates one by one: input, forget, cell, output."""
    for name, weight in cells.named_parameters():
        for gate, part in enumerate(weight.chunk(4)):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(part)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(part)
            else:  # two biases are added; one of them opens the forget gate
                nn.init.constant_(part, float(gate == 1 and name.startswith("bias_ih")))
