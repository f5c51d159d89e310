"""What training makes small: one number per picture, averaged over the batch.

t targets of a picture, which sum to 1 (one class, or a mixture of two); z logits; p = softmax(z); K classes.
Label smoothing e replaces t by (1 - e) t + e / K, https://arxiv.org/abs/1512.00567.

- cross-entropy: -sum_k t_k log p_k
- focal: -sum_k t_k (1 - p_k)^gamma log p_k, https://arxiv.org/abs/1708.02002
- binary: -sum_k (t_k log s(z_k) + (1 - t_k) log(1 - s(z_k))), s the logistic function. The sum over classes, not the
  mean, has per logit a gradient of cross-entropy's size whatever K is. Nothing in it asks the targets to sum to 1, so
  several classes at once can be learnt with it.

Probabilities are the softmax of the logits for each of them: a picture has one class, both functions put the classes
in the same order, and the temperature is fitted to what the softmax says on validation data.
"""

from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig

# B batch, K classes

SMALLEST_MISS = 1e-6  # of 1 - p: below gamma 1 the slope of (1 - p)^gamma is infinite where p is 1


def loss_of(
    logits: Tensor, targets: Tensor, *, config: LossConfig, smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """The mean over the batch, float32 () whatever the logits (B, K) are; targets int64 (B,) or float (B, K).

    `class_weights` (K,): a picture counts sum_k t_k class_weights_k. Its mean over a batch is not divided by the
    weights' own, so that the parts of a batch add up to the whole.
    """
    logits = logits.float()
    if class_weights is None and isinstance(config, CrossEntropyConfig):
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)  # the same in one kernel
    K = logits.shape[1]
    shares = targets.float() if targets.is_floating_point() else F.one_hot(targets, K).float()
    losses = losses_of(logits, (1 - smoothing) * shares + smoothing / K, config)
    if class_weights is not None:
        losses = losses * (shares * class_weights).sum(1)
    return losses.mean()


def losses_of(logits: Tensor, shares: Tensor, config: LossConfig) -> Tensor:
    """(B, K) and (B, K) -> (B,)."""
    match config:
        case CrossEntropyConfig():
            return -(shares * logits.log_softmax(1)).sum(1)
        case FocalConfig():
            log_p = logits.log_softmax(1)
            miss = (1 - log_p.exp()).clamp_min(SMALLEST_MISS)
            return -(shares * miss.pow(config.gamma) * log_p).sum(1)
        case BinaryConfig():
            return F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(1)
        case _:
            assert_never(config)


def class_weights_for(config: LossConfig, labels: np.ndarray, *, num_classes: int) -> Tensor | None:
    """float32 (K,) from the training labels alone; None where all pictures count alike."""
    if config.class_weights is None:
        return None
    return torch.from_numpy(balanced(labels, num_classes=num_classes))


def balanced(labels: np.ndarray, *, num_classes: int) -> np.ndarray:
    """float32 (K,): in proportion to 1 / frequency, 1 on average over the pictures; a class without any has 1."""
    counts = np.bincount(labels, minlength=num_classes)
    present = np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0).astype(np.float32)
