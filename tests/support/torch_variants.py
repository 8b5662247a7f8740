"""QMRA's variants in PyTorch: `benchmarks.torch_qmra` with some modules replaced.

Each follows its paper's formula and shares no code with `qmra_jax`. Shapes as in
`benchmarks.torch_qmra`; `q` query places, `m` memory places.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import torch_qmra
from benchmarks.torch_qmra import KeyValue, Memory, foreground
from benchmarks.torch_resnet import Encoder

# ------------------------------------------------------------------ readers: affinity [b, q, m]
# of query keys [b, q, c] and memory keys [b, m, c] on a grid of places with this width


def dot(queries: Tensor, keys: Tensor, width: int, scale: bool = True) -> Tensor:
    """Eq. 6, with STM's scale or as printed."""
    return torch.softmax(queries @ keys.mT / (queries.shape[2] ** 0.5 if scale else 1), 2)


def l2(queries: Tensor, keys: Tensor, width: int) -> Tensor:
    """STCN: the negative squared distance."""
    squared = (queries[:, :, None] - keys[:, None]).square().sum(3)
    return torch.softmax(-squared / queries.shape[2] ** 0.5, 2)


def cosine(queries: Tensor, keys: Tensor, width: int) -> Tensor:
    """The angle, at temperature 0.07."""
    return torch.softmax(F.cosine_similarity(queries[:, :, None], keys[:, None], dim=3) / 0.07, 2)


def topk(queries: Tensor, keys: Tensor, width: int, k: int = 4) -> Tensor:
    """MiVOS: softmax of the k largest, zero elsewhere."""
    best, where = (queries @ keys.mT / queries.shape[2] ** 0.5).topk(k, 2)
    affinity = torch.zeros(len(queries), queries.shape[1], keys.shape[1])
    return affinity.scatter(2, where, torch.softmax(best, 2))


def kernel(queries: Tensor, keys: Tensor, width: int, sigma: float = 1.5) -> Tensor:
    """KMN, Eq. 6-8: exp(similarity) times a Gaussian about each memory place's best query place."""
    similarity = queries @ keys.mT / queries.shape[2] ** 0.5
    places = torch.arange(queries.shape[1])
    grid = torch.stack([places // width, places % width], 1).float()  # [q, 2]
    best = grid[similarity.argmax(1)]  # [b, m, 2]
    distance = torch.cdist(grid.expand(len(queries), -1, -1), best)
    weights = similarity.exp() * torch.exp(-(distance**2) / (2 * sigma**2))
    return weights / weights.sum(2, keepdim=True)


def mean(queries: Tensor, keys: Tensor, width: int) -> Tensor:
    """No read: the mean over frames of the same place."""
    frames = keys.shape[1] // queries.shape[1]
    return torch.eye(queries.shape[1]).repeat(len(queries), 1, frames) / frames


READERS = {
    "dot": dot,
    "dot:scale=False": functools.partial(dot, scale=False),
    "l2": l2,
    "cosine": cosine,
    "topk:k=4": topk,
    "kernel:sigma=1.5": kernel,
    "none": mean,
}

# ------------------------------------------------------------------ aggregation


class Aggregation(nn.Module):
    """QMA with any reader and aggregator."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int, reader: str, aggregator: str):
        super().__init__()
        self.affinity, self.aggregator = READERS[reader], aggregator
        self.memory_kv = torch_qmra.KeyValueProjection(inputs, key_dim, value_dim)
        self.query_kv = torch_qmra.KeyValueProjection(inputs, key_dim, value_dim)
        both = 2 * value_dim
        if aggregator == "spatial":
            self.conv1 = nn.Conv2d(both, both // 16, 1)
            self.conv2 = nn.Conv2d(both // 16, 2, 3, padding=1)
        elif aggregator != "none":
            self.fc1 = nn.Linear(both, both // 16)
            self.fc2 = nn.Linear(both // 16, both if aggregator == "bca" else value_dim)

    def forward(self, r4: Tensor, memory: KeyValue) -> Tensor:
        """Query `[b, inputs, H, W]`, memory `[b, t, c, H, W]` -> F_a `[b, 2 value_dim, H, W]`."""
        key, value = self.query_kv(r4)
        keys, values = (x.movedim(2, -1).flatten(1, 3) for x in memory)  # [b, m, c]
        affinity = self.affinity(key.flatten(2).mT, keys, key.shape[3])
        read_out = (affinity @ values).mT.reshape(value.shape)
        both = torch.cat([value, read_out], 1)
        if self.aggregator == "none":
            return both
        if self.aggregator == "spatial":
            weights = self.conv2(F.relu(self.conv1(both))).sigmoid()  # [b, 2, H, W]
            return torch.cat([value * weights[:, :1], read_out * weights[:, 1:]], 1)
        weights = self.fc2(F.relu(self.fc1(both.mean((2, 3))))).sigmoid()[:, :, None, None]
        if self.aggregator == "query_only":
            return torch.cat([value * weights, read_out], 1)
        if self.aggregator == "memory_only":
            return torch.cat([value, read_out * weights], 1)
        return both * weights


class RefinementWithoutCoordinates(nn.Module):
    """CRM w/o CL: only B_q and S_q join F_a."""

    def __init__(self, width: int):
        super().__init__()
        self.box_conv = nn.Conv2d(width + 1, width, 1)
        self.mask_conv = nn.Conv2d(width + 1, width, 1)

    def forward(self, x: Tensor, box: Tensor, mask: Tensor) -> Tensor:
        """`[b, width, H, W]`, logits B_q and S_q `[b, 2, h, w]` -> `[b, width, H, W]`."""
        for conv, logits in ((self.box_conv, box), (self.mask_conv, mask)):
            x = F.relu(conv(torch.cat([x, F.avg_pool2d(foreground(logits), 16)], 1)))
        return x


# ------------------------------------------------------------------ the network


class Variant(torch_qmra.QMRA):
    """QMRA with the config's variants."""

    def __init__(
        self,
        backbone: str,
        key_dim: int,
        value_dim: int,
        decoder_dim: int,
        *,
        stages: int = 2,
        align: str = "box",
        siamese: bool = True,
        reader: str = "dot",
        aggregator: str = "bca",
        refine: str = "crm",
        features: str = "",
    ):
        items = (item.split("=") for item in filter(None, features.partition(":")[2].split(",")))
        sizes = {name: int(value) for name, value in items} or None
        super().__init__(backbone, key_dim, value_dim, decoder_dim, features=sizes)
        self.stages, self.align, self.refine = stages, align, refine
        inputs = self.qma1.query_kv.key.in_channels
        self.qma1 = Aggregation(inputs, key_dim, value_dim, reader, aggregator)
        self.qma2 = Aggregation(inputs, key_dim, value_dim, reader, aggregator)
        self.stage2_encoder = [self.memory_encoder]  # in a list: registered once
        if not siamese:
            self.refined_query_encoder = Encoder(backbone, 4)
            self.stage2_encoder = [self.refined_query_encoder]
        if refine == "crm_no_coord":
            self.crm = RefinementWithoutCoordinates(2 * value_dim)
        unused = ["crm", "refine_decoder"] if refine == "none" or stages == 1 else []
        for name in unused + (["box_decoder", "qma2"] if stages == 1 else []):
            delattr(self, name)

    def predict(self, query: Tensor, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        """The outputs, and the query frame's own memory (t = 1)."""
        r4, r3, r2 = self.encode(self.query_encoder, query)
        first = self.mask_decoder if self.stages == 1 else self.box_decoder
        located = first(self.qma1(r4, memory.stage1), r3, r2)
        # Memory frames carry boxes: the tight box of a predicted mask.
        is_box = self.stages == 2 and self.align == "box"
        stored = foreground(located) if is_box else tight_boxes(foreground(located))
        entry = self.memorize(query[:, None], stored[:, None])
        if self.stages == 1:
            return {"mask": located}, entry
        s4, s3, s2 = self.encode(self.stage2_encoder[0], query, foreground(located))
        aggregated = self.qma2(s4, memory.stage2)
        mask = self.mask_decoder(aggregated, s3, s2)
        outputs = {"box": located, "mask": mask}
        if self.refine != "none":
            refined = self.crm(aggregated, located, mask)
            outputs["refined"] = self.refine_decoder(refined, s3, s2)
        return outputs, entry

    def _project(self, r4: Tensor, batch: tuple[int, ...]) -> Memory:
        modules = [self.qma1] if self.stages == 1 else [self.qma1, self.qma2]
        stages = [module.memory_kv(r4) for module in modules]
        kept = [KeyValue(*(x.unflatten(0, batch) for x in kv)) for kv in stages]
        return Memory(kept[0], kept[-1])


def tight_boxes(probability: Tensor) -> Tensor:
    """The filled tight box of pixels above one half, `[b, 1, h, w]` -> `[b, 1, h, w]`."""
    filled = torch.zeros_like(probability)
    for i, map_ in enumerate(probability[:, 0] > 0.5):
        rows, columns = torch.where(map_)
        if len(rows):
            filled[i, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    return filled
