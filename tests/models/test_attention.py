"""Each way of mixing tokens beside a slow reference, and beside full attention where the two must agree."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data.errors import InputError
from models.zoo.attention.clustered import Clustered
from models.zoo.attention.full import Full
from models.zoo.attention.grid import Grid, cut, slots_of
from models.zoo.attention.layer import Attention, Mix, attend
from models.zoo.attention.linear import Linear
from models.zoo.attention.linformer import Linformer
from models.zoo.attention.local import Local, choose_tile
from models.zoo.attention.rotary import Rotary
from models.zoo.attention.sinkhorn import Sinkhorn, balance, choose
from models.zoo.attention.special import Special
from models.zoo.attention.strided import Strided
from models.zoo.attention.synthesizer import Dense, Fixed

HEADS, WIDTH = 2, 4
GRID, ODD = Grid(4, 6, extra=1), Grid(11, 13, extra=2)

MIXES: dict[str, Callable[[Grid], Mix]] = {
    "full": lambda _: Full(),
    "local": lambda grid: Local(grid, heads=HEADS, window=3),
    "strided": lambda grid: Strided(grid),
    "global": lambda grid: Special(grid),
    "clustered": lambda grid: Clustered(grid, heads=HEADS, width=WIDTH),
    "sinkhorn": lambda grid: Sinkhorn(grid, heads=HEADS, width=WIDTH),
    "linformer": lambda grid: Linformer(grid, rank=8),
    "elu": lambda _: Linear(width=WIDTH),
    "relu": lambda _: Linear(width=WIDTH, feature_map="relu"),
    "random": lambda _: Linear(width=WIDTH, feature_map="random", features=8),
    "dense": lambda grid: Dense(grid, heads=HEADS, width=WIDTH),
    "fixed": lambda grid: Fixed(grid, heads=HEADS),
}


def made(name: str, grid: Grid) -> Mix:
    torch.manual_seed(0)
    return MIXES[name](grid).eval()


def parts(grid: Grid, num: int = 3, *, batch: int = 2) -> list[Tensor]:
    """Queries, keys, values."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, HEADS, grid.tokens, WIDTH, generator=generator) for _ in range(num)]


def by_mask(q: Tensor, k: Tensor, v: Tensor, see: Tensor | None = None) -> Tensor:
    """Softmax attention by hand; see (N, N) bool."""
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    return (scores if see is None else scores.masked_fill(~see, -math.inf)).softmax(3) @ v


def seen(grid: Grid, rule: Callable[[int, int, int, int], bool]) -> Tensor:
    """(N, N) bool from rows and columns of the asking and the asked token; extra tokens see and are seen."""
    see = torch.ones(grid.tokens, grid.tokens, dtype=torch.bool)
    for a in range(grid.patches):
        for b in range(grid.patches):
            row, column, other_row, other_column = *divmod(a, grid.columns), *divmod(b, grid.columns)
            see[grid.extra + a, grid.extra + b] = rule(row, column, other_row, other_column)
    return see


@pytest.mark.parametrize("extra", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_local_attention_sees_the_window_around_a_token(window: int, extra: int):
    grid = Grid(12, 15, extra=extra)
    assert (choose_tile(grid, window // 2)[1] > 0) == (window in (3, 5))  # with a halo, and without
    q, k, v = parts(grid)
    reach = window // 2
    see = seen(grid, lambda r, c, y, x: abs(r - y) <= reach and abs(c - x) <= reach)
    torch.testing.assert_close(Local(grid, heads=HEADS, window=window)(q, k, v), by_mask(q, k, v, see))


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_attention_sees_its_tile_and_its_place_in_every_other(stride: int, extra: int):
    grid, s = Grid(5, 7, extra=extra), stride
    q, k, v = parts(grid)
    see = seen(grid, lambda r, c, y, x: (r // s, c // s) == (y // s, x // s) or (r % s, c % s) == (y % s, x % s))
    torch.testing.assert_close(Strided(grid, stride=stride)(q, k, v), by_mask(q, k, v, see))


def test_global_attention_sees_itself_and_the_special_tokens():
    q, k, v = parts(ODD)
    see = seen(ODD, lambda r, c, y, x: (r, c) == (y, x))
    torch.testing.assert_close(Special(ODD)(q, k, v), by_mask(q, k, v, see))


@pytest.mark.parametrize("extra", [0, 1])
def test_clustered_attention_sees_the_nearest_of_a_centroid(extra: int):
    grid = Grid(4, 5, extra=extra)
    q, k, v = parts(grid)
    torch.manual_seed(0)
    mix = Clustered(grid, heads=HEADS, width=WIDTH, clusters=3).eval()
    expected = torch.zeros_like(v)
    for b, h in product(range(len(q)), range(HEADS)):
        counted = torch.zeros(grid.tokens, 1)
        for c in range(3):
            asking = taken(q[b, h, extra:], mix.centroids[h, :, c], num=7)
            asked = taken(k[b, h, extra:], mix.centroids[h, :, c], num=7)
            keys = [*range(extra), *(extra + token for token in asked)]
            shares = torch.tensor([1.0] * extra + list(asked.values()))
            for token, share in asking.items():
                weights = (q[b, h, extra + token] @ k[b, h, keys].T / 2).exp() * shares
                expected[b, h, extra + token] += share * (weights / weights.sum()) @ v[b, h, keys]
                counted[extra + token] += share
        expected[b, h] /= counted.clamp(min=1)
    if extra:
        expected[:, :, :1] = by_mask(q, k, v)[:, :, :1]
    torch.testing.assert_close(mix(q, k, v), expected)


def taken(tokens: Tensor, centroid: Tensor, *, num: int) -> dict[int, float]:
    """The tokens that a centroid takes, and how much each counts: less within 0.05 of the first that it leaves."""
    near = torch.cosine_similarity(tokens, centroid, dim=1).tolist()
    order = sorted(range(len(near)), key=lambda token: -near[token])
    return {token: min(1.0, (near[token] - near[order[num]]) / 0.05) for token in order[:num]}


def test_which_of_two_equal_tokens_is_taken_does_not_matter():
    """Rounding may decide it one way here and the other way in the exported graph."""
    grid = Grid(4, 5)
    q, k, v = parts(grid)
    torch.manual_seed(0)
    mix = Clustered(grid, heads=HEADS, width=WIDTH, clusters=3).eval()
    first, last = (sorted(range(20), key=lambda t: -float(k[0, 0, t] @ mix.centroids[0, :, 0] / k[0, 0, t].norm()))[n]
                   for n in (6, 7))  # fmt: skip
    k[0, 0, last] = k[0, 0, first]
    nudged = k.clone()
    nudged[0, 0, last] += 1e-6 * mix.centroids[0, :, 0]
    k[0, 0, first] += 1e-6 * mix.centroids[0, :, 0]
    torch.testing.assert_close(mix(q, nudged, v), mix(q, k, v), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_centroids_follow_their_members_in_training_only():
    q, _, v = parts(GRID)
    mix = made("clustered", GRID)
    mix.centroids.copy_(torch.nn.functional.normalize(torch.randn(HEADS, WIDTH, mix.clusters), dim=1))
    before = mix.centroids.clone()
    mix(q, q, v)
    assert torch.equal(mix.centroids, before)

    def pull() -> float:
        """Mean product of a centroid with the tokens it takes."""
        near = torch.nn.functional.normalize(q[:, :, 1:], dim=3) @ mix.centroids
        return near.topk(mix.members, dim=2).values.mean().item()

    loose = pull()
    mix.train()
    for _ in range(200):
        mix(q, q, v)
    assert pull() > loose
    torch.testing.assert_close(mix.centroids.norm(dim=1), torch.ones(HEADS, mix.clusters))


@pytest.mark.parametrize("extra", [0, 1])
def test_sinkhorn_attention_sees_its_tile_and_the_one_sorted_to_it(extra: int):
    grid = Grid(4, 6, extra=extra)
    q, k, v = parts(grid)
    torch.manual_seed(0)
    mix = Sinkhorn(grid, heads=HEADS, width=WIDTH, buckets=2)
    tiles = [[extra + 6 * r + c for r in (y, y + 1) for c in (x, x + 1, x + 2)] for y in (0, 2) for x in (0, 3)]
    means = torch.stack([k[:, :, tile].mean(2) for tile in tiles], dim=2)
    order = balance(torch.einsum("bhtd,hdu->bhtu", means, mix.sort) / 0.75, 8)
    expected = by_mask(q, k, v)  # what an extra token sees
    special = list(range(extra))
    for i, tile in enumerate(tiles):
        sorted_k = sum(order[:, :, i, j, None, None] * k[:, :, other] for j, other in enumerate(tiles))
        sorted_v = sum(order[:, :, i, j, None, None] * v[:, :, other] for j, other in enumerate(tiles))
        keys = torch.cat([k[:, :, special + tile], k[:, :, special], sorted_k], dim=2)
        values = torch.cat([v[:, :, special + tile], v[:, :, special], sorted_v], dim=2)
        expected[:, :, tile] = by_mask(q[:, :, tile], keys, values)
    torch.testing.assert_close(mix(q, k, v), expected)


def test_a_balanced_matrix_is_doubly_stochastic():
    torch.manual_seed(0)
    matrix = balance(3 * torch.randn(2, 6, 6), 100)
    assert matrix.min() > 0
    torch.testing.assert_close(matrix.sum(1), torch.ones(2, 6))
    torch.testing.assert_close(matrix.sum(2), torch.ones(2, 6), atol=1e-3, rtol=0)


def test_unequal_tiles_are_refused_with_the_numbers_that_fit():
    with pytest.raises(InputError, match=r"buckets 3 does not cut 4 x 6 tokens into equal tiles; use one of 1, 2$"):
        Sinkhorn(GRID, heads=HEADS, width=WIDTH, buckets=3)
    assert [choose(side) for side in (1, 4, 7, 8, 16, 64)] == [1, 2, 1, 2, 4, 8]


def test_linformer_sees_mixtures_of_tokens():
    mix = Linformer(GRID, rank=3)
    q, k, v = parts(GRID)
    expected = by_mask(q, torch.einsum("rn,bhnd->bhrd", mix.keys, k), torch.einsum("rn,bhnd->bhrd", mix.values, v))
    torch.testing.assert_close(mix(q, k, v), expected)


@pytest.mark.parametrize("name", ["elu", "relu", "random"])
def test_linear_attention_is_its_kernel_matrix(name: str):
    mix, (q, k, v) = made(name, GRID), parts(GRID)
    assert isinstance(mix, Linear)
    kernel = mix.features(q, over=(3,)) @ mix.features(k, over=(2, 3)).transpose(2, 3)
    assert kernel.min() > 0
    torch.testing.assert_close(mix(q, k, v), kernel / kernel.sum(3, keepdim=True) @ v)


@pytest.mark.parametrize("name", ["elu", "relu", "random"])
@pytest.mark.parametrize(("dtype", "low"), [(torch.float32, -20.0), (torch.bfloat16, -8.0)])
def test_a_token_without_any_feature_is_answered_all_the_same(name: str, dtype: torch.dtype, low: float):
    mix, (q, k, v) = made(name, GRID).to(dtype), (x.to(dtype) for x in parts(GRID))
    assert mix(torch.full_like(q, low), k, v).isfinite().all()
    assert mix(q, torch.full_like(k, low), v).isfinite().all()


def test_random_features_approximate_the_softmax():
    torch.manual_seed(0)
    q, k, v = (x / 2 for x in parts(GRID))  # the variance grows exponentially with their length
    errors = [
        (Linear(width=WIDTH, feature_map="random", features=features)(q, k, v) - by_mask(q, k, v)).abs().mean()
        for features in (16, 8192)
    ]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 4


def test_a_dense_synthesizer_looks_where_the_token_alone_says():
    mix, (hidden, v) = made("dense", GRID), parts(GRID, 2)
    assert isinstance(mix, Dense)
    scores = torch.einsum("bhnd,hdm->bhnm", hidden.clamp(min=0), mix.weight) + mix.bias
    torch.testing.assert_close(mix(hidden, v), scores.softmax(3) @ v)


def test_a_random_synthesizer_looks_at_the_same_places_in_every_picture():
    mix, (v,) = made("fixed", GRID), parts(GRID, 1)
    assert isinstance(mix, Fixed)
    for picture, answer in zip(v, mix(v), strict=True):
        torch.testing.assert_close(answer, mix.scores.softmax(2) @ picture)


def test_attention_is_softmax_of_scaled_products_by_hand():
    torch.manual_seed(0)
    layer, x = Attention(8, 2, Full()), torch.randn(3, 5, 8)
    q, k, v = layer.project(layer.norm(x)).chunk(3, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = (q[..., head] @ k[..., head].transpose(1, 2) / math.sqrt(4)).softmax(dim=-1)
        heads.append(weights @ v[..., head])
    torch.testing.assert_close(layer(x), layer.out(torch.cat(heads, dim=-1)))


def identity_linformer(grid: Grid) -> Mix:
    mix = Linformer(grid, rank=grid.tokens)
    for matrix in (mix.keys, mix.values):
        torch.nn.init.eye_(matrix)
    return mix


@pytest.mark.parametrize("grid", [GRID, ODD, Grid(3, 3)], ids=str)
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(lambda grid: Local(grid, heads=HEADS, window=2 * grid.longer - 1), id="window over everything"),
        pytest.param(lambda grid: Strided(grid, stride=1), id="stride 1"),
        pytest.param(lambda grid: Strided(grid, stride=grid.longer), id="one tile"),
        pytest.param(lambda grid: Clustered(grid, heads=HEADS, width=WIDTH, clusters=1), id="one cluster"),
        pytest.param(lambda grid: Sinkhorn(grid, heads=HEADS, width=WIDTH, buckets=1), id="one bucket"),
        pytest.param(identity_linformer, id="every token its own mixture"),
    ],
)
def test_in_the_limit_it_is_full_attention(limit: Callable[[Grid], Mix], grid: Grid):
    q, k, v = parts(grid)
    torch.testing.assert_close(limit(grid)(q, k, v), by_mask(q, k, v))


@pytest.mark.parametrize("name", MIXES)
def test_only_what_knows_no_places_follows_a_permutation(name: str):
    mix, several = made(name, GRID), parts(GRID, made(name, GRID).inputs)
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(GRID.patches, generator=torch.Generator().manual_seed(2))])
    follows = torch.allclose(mix(*several)[:, :, order], mix(*(x[:, :, order] for x in several)), atol=1e-5)
    assert follows == (name in {"full", "global", "clustered", "elu", "relu", "random"})


@pytest.mark.parametrize(
    ("name", "power"),
    [("full", 2), ("local", 1), ("strided", 1.5), ("global", 1), ("clustered", 1.5), ("sinkhorn", 1.5),
     ("linformer", 1), ("elu", 1), ("random", 1), ("dense", 2), ("fixed", 2)],
)  # fmt: skip
def test_cost_grows_as_claimed(name: str, power: float):
    """From 256 tokens to 4,096: 16 times, 64 times or 256 times the work."""
    work = []
    for side in (16, 64):
        grid = Grid(side, side, extra=1 if name == "global" else 0)
        with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            mix = full_sized(name, grid)
            mix(*(torch.empty(1, HEADS, grid.tokens, WIDTH) for _ in range(mix.inputs)))
        work.append(counter.get_total_flops())
    assert work[1] / work[0] == pytest.approx(16**power, rel=0.15)


def full_sized(name: str, grid: Grid) -> Mix:
    """Index tables need real numbers, so it is made on the CPU and then moved."""
    with torch.device("cpu"):
        return MIXES[name](grid).eval().to("meta")


@pytest.mark.parametrize("name", MIXES)
def test_gradients_are_finite_where_tiles_stick_out(name: str):
    mix = made(name, ODD)
    several = [x.requires_grad_() for x in parts(ODD, mix.inputs)]
    mix(*several).square().sum().backward()
    for x in [*several, *mix.parameters()]:
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", MIXES)
def test_bfloat16_differs_by_rounding_alone(name: str):
    mix, several = made(name, ODD), parts(ODD, made(name, ODD).inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = mix(*(x.bfloat16() for x in several))
    assert rough.dtype == torch.bfloat16
    if name != "clustered":  # where rounding decides which tokens belong together
        torch.testing.assert_close(rough.float(), mix(*several), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    "see",
    [None, torch.eye(9, 11).bool(), torch.linspace(-3, 3, 99).view(9, 11)],
    ids=["all", "some", "some more than others"],
)
def test_softmax_attention_is_trained_in_bfloat16_as_in_float32(see: Tensor | None):
    torch.manual_seed(0)
    several = [torch.randn(2, HEADS, tokens, WIDTH).requires_grad_() for tokens in (9, 11, 11)]
    if see is not None and see.dtype == torch.bool:
        see = see | (torch.arange(11) == 3)  # each query has a key
    exact = attend(*several, see=see)
    exact.square().sum().backward()
    gradients = [x.grad for x in several]
    low = [x.detach().bfloat16().requires_grad_() for x in several]
    rough = attend(*low, see=see.bfloat16() if see is not None and see.is_floating_point() else see).float()
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0.03)
    rough.square().sum().backward()
    for x, gradient in zip(low, gradients, strict=True):
        torch.testing.assert_close(x.grad.float(), gradient, atol=0.1, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("name", MIXES)
def test_a_gpu_answers_like_the_processor(name: str):
    mix, several = made(name, ODD), parts(ODD, made(name, ODD).inputs)
    expected = mix(*several)
    torch.testing.assert_close(mix.cuda()(*(x.cuda() for x in several)).cpu(), expected, atol=1e-4, rtol=1e-3)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rough = mix.train()(*(x.cuda().bfloat16().requires_grad_() for x in several))
    rough.float().sum().backward()
    assert rough.isfinite().all()


def test_products_of_rotary_queries_and_keys_depend_on_relative_positions_only():
    torch.manual_seed(0)
    grid = Grid(4, 5, extra=1)
    rotary = Rotary(grid, 8)
    q, k = torch.randn(8).expand(1, 1, 21, 8), torch.randn(8).expand(1, 1, 21, 8)
    products = (rotary(q) @ rotary(k).transpose(2, 3))[0, 0, 1:, 1:].view(4, 5, 4, 5)
    torch.testing.assert_close(products[:3, :4, :3, :4], products[1:, 1:, 1:, 1:])
    torch.testing.assert_close(products[0, :4, 2, :4], products[1, 1:, 3, 1:])
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0])  # rows and columns are told apart
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 1, 0, 0])  # and left from right
    torch.testing.assert_close(rotary(q)[0, 0, 0], q[0, 0, 0])
    torch.testing.assert_close(rotary(q).norm(dim=3), q.norm(dim=3))


def test_tiles_hold_every_patch_once_and_give_it_back():
    grid = Grid(5, 7)
    patch, inside = cut(grid, 2, 3)
    assert patch.shape == (9, 6)
    assert sorted(patch[inside].tolist()) == list(range(35))
    assert patch[0].tolist() == [0, 1, 2, 7, 8, 9]
    assert patch.flatten()[slots_of(patch, inside)].tolist() == list(range(35))
