"""An attention's configuration -> how tokens are mixed."""

from typing import assert_never

from models.zoo import config_transformer as c
from models.zoo.attention.clustered import Clustered
from models.zoo.attention.full import Full
from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Mix
from models.zoo.attention.linear import Linear
from models.zoo.attention.linformer import Linformer
from models.zoo.attention.local import Local
from models.zoo.attention.sinkhorn import Sinkhorn
from models.zoo.attention.special import Special
from models.zoo.attention.strided import Strided
from models.zoo.attention.synthesizer import Dense, Fixed


def special_tokens(config: c.AttentionConfig) -> int:
    """How many learned tokens this attention wants beside those of the picture."""
    return config.tokens if isinstance(config, c.GlobalAttention) else 0


def build_mix(config: c.AttentionConfig, grid: Grid, *, heads: int, width: int) -> Mix:
    """`width`: of a head. Raises `InputError` where the attention does not fit the grid."""
    match config:
        case c.FullAttention():
            return Full()
        case c.LocalAttention():
            return Local(grid, heads=heads, window=config.window)
        case c.StridedAttention():
            return Strided(grid, stride=config.stride)
        case c.GlobalAttention():
            return Special(grid)
        case c.ClusteredAttention():
            return Clustered(grid, heads=heads, width=width, clusters=config.clusters)
        case c.SinkhornAttention():
            return Sinkhorn(grid, heads=heads, width=width, buckets=config.buckets, iterations=config.iterations)
        case c.LinformerAttention():
            return Linformer(grid, rank=config.rank)
        case c.LinearAttention():
            return Linear(width=width, feature_map=config.feature_map, features=config.features)
        case c.SynthesizerAttention(form="dense"):
            return Dense(grid, heads=heads, width=width)
        case c.SynthesizerAttention():
            return Fixed(grid, heads=heads)
        case _:
            assert_never(config)
