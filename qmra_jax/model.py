"""QMRA, the network of the paper's Figure 2.

    query --f_q--> qma1 (reads memory) --> box_decoder --> B_q                       stage 1
    query + B_q --f_m--> qma2 (reads memory) --> mask_decoder --> S_q                stage 2
    F_a, B_q, S_q --> crm --> refine_decoder --> S_q^r                               refinement

f_m also encodes the memory frames with their boxes: that is the siamese encoder, and what it makes
of the query joins the memory, so that no frame is encoded twice. A batch of one image may stand
beside several objects (the memory's batch); what does not depend on the object is computed once.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from qmra_jax import batch_norm, variants
from qmra_jax.aggregation import AGGREGATORS, QueryMemoryAggregation
from qmra_jax.decoder import Decoder
from qmra_jax.errors import InputError
from qmra_jax.memory_read import READERS
from qmra_jax.priors import PRIORS, foreground
from qmra_jax.refinement import REFINERS
from qmra_jax.resnet import BACKBONES, Encoder, Features
from qmra_jax.structures import Located, Memory, Segmented

DTYPES = ("float32", "bfloat16", "float16")
REMATS = ("none", "encoders", "all")


class QMRA(nn.Module):
    """Query-Memory Re-Aggregation. The defaults are the paper's: 53,235,782 parameters.

    Attributes:
      backbone: "resnet50" or "resnet18".
      key_dim: channels of the keys, c_k.
      value_dim: channels of the values, c_v.
      decoder_dim: width of the decoders.
      reader: a name of `memory_read.READERS`, with options ("dot:scale=False").
      aggregator: a name of `aggregation.AGGREGATORS`, with options ("bca:reduction=8").
      prior: a name of `priors.PRIORS`: what of B_q stage 2 is told.
      refine: a name of `refinement.REFINERS`, with options ("crm:features=both").
      dtype: of the computation; parameters, statistics, softmaxes, BCA's weights and logits are
        float32.
      batch_norm: how the encoders' BatchNorm trains: "frozen" (by its stored statistics, as STM) or
        "sync" (by the batch's, over all devices). Inference uses the stored ones either way.
      remat: what the backward pass computes again rather than keeps: "none", "encoders" (all but
        the input of each residual block) or "all" (and all but the inputs of each decoder). XLA's
        CPU compiler merges the second computation with the first again, and saves nothing.
      stats_axis: no setting; the training step gives a "sync" network the mapped axis here.
    """

    backbone: str = "resnet50"
    key_dim: int = 128
    value_dim: int = 512
    decoder_dim: int = 256
    reader: str = "dot"
    aggregator: str = "bca"
    prior: str = "soft"
    refine: str = "crm"
    dtype: Any = "float32"
    batch_norm: str = "frozen"
    remat: str = "none"
    stats_axis: str | None = None

    def setup(self):
        qma = (self.key_dim, self.value_dim, self.reader, self.aggregator, self.dtype)
        encoder = (self.backbone, self.dtype, self.stats_axis, self.remat != "none")
        decoder = nn.remat(Decoder) if self.remat == "all" else Decoder
        self.query_encoder = Encoder(*encoder)
        self.memory_encoder = Encoder(*encoder)
        self.qma1 = QueryMemoryAggregation(*qma)
        self.qma2 = QueryMemoryAggregation(*qma)
        self.box_decoder = decoder(self.decoder_dim, self.dtype)
        self.mask_decoder = decoder(self.decoder_dim, self.dtype)
        self.crm = variants.choose("refine", REFINERS, self.refine)(dtype=self.dtype)
        self.refine_decoder = decoder(self.decoder_dim, self.dtype)
        self.to_prior = variants.choose("prior", PRIORS, self.prior)

    def __call__(self, query, memory_images, memory_maps) -> dict[str, jax.Array]:
        """The whole network on a query and its memory frames, as in training.

        Args:
          query: float32 `[b, h, w, 3]` RGB in [0, 1]; h and w multiples of 16.
          memory_images: float32 `[b, t, h, w, 3]`, likewise.
          memory_maps: float32 `[b, t, h, w, 1]` in [0, 1]: the memory frames' filled boxes.

        Returns:
          float32 logits `[b, h, w, 2]` (background, foreground): "box" (B_q), "mask" (S_q) and
          "refined" (S_q^r).

        Raises:
          InputError: if the shapes are not these.
        """
        check_inputs(query, memory_images, memory_maps)
        memory = self.memorize(
            rearrange(memory_images, "b t h w c -> (b t) h w c"),
            rearrange(memory_maps, "b t h w c -> (b t) h w c"),
        )
        memory = jax.tree.map(
            lambda x: rearrange(x, "(b t) 1 h w c -> b t h w c", b=query.shape[0]), memory
        )
        return self._answer(query, memory)

    def with_predicted_maps(
        self, query, memory_images, memory_maps, predicted, gradient: bool = False
    ) -> dict[str, jax.Array]:
        """`__call__` with memory as inference has it: only the first frame's box is given.

        The map of each later memory frame i is what inference would have stored for it: the prior
        M of its B_q, from the memory of frames 0 to i - 1. That costs one pass of stage 1 a frame,
        and none of f_m, which encodes each frame once as in `__call__`.

        Args:
          query: as `__call__`'s.
          memory_images: as `__call__`'s.
          memory_maps: as `__call__`'s.
          predicted: bool `[b]`: of which examples; the others keep their given maps.
          gradient: whether the loss reaches, through a predicted map, the pass that made it.

        Returns:
          as `__call__`.
        """
        check_inputs(query, memory_images, memory_maps)
        memory = self.memorize(memory_images[:, 0], memory_maps[:, 0])
        for i in range(1, memory_images.shape[1]):
            image, box = memory_images[:, i], memory_maps[:, i]
            stored = self.to_prior(foreground(self.locate(image, memory).box))
            if not gradient:
                stored = jax.lax.stop_gradient(stored)
            box = jnp.where(predicted[:, None, None, None], stored, box)
            frame = self.memorize(image, box)
            memory = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), memory, frame)
        return self._answer(query, memory)

    def memorize(self, images, maps) -> Memory:
        """Encodes memory frames with f_m.

        Args:
          images: float32 `[b, h, w, 3]`; b may be 1 beside several maps.
          maps: float32 `[b, h, w, 1]` in [0, 1].

        Returns:
          their keys and values, each `[b, 1, H, W, c]`.
        """
        return self._to_memory(self.memory_encoder(images, maps))

    def locate(self, query, memory: Memory, valid=None) -> Located:
        """Stage 1 (Eq. 1-2): where is the object?

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          memory: of t frames.
          valid: bool `[b, t]`: which memory frames count; None for all.
        """
        r4, r3, r2 = self.query_encoder(query)
        feature = self.qma1(r4, memory.key1, memory.value1, valid)
        return Located(self.box_decoder(feature, r3, r2), feature)

    def segment(self, query, box, memory: Memory, stage1, valid=None) -> Segmented:
        """Stage 2 and the refinement (Eq. 3-5, Figure 4): which pixels are the object's?

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          box: foreground probability of B_q, float32 `[b, h, w, 1]`, or a given box's map.
          memory: of t frames.
          stage1: F_a of stage 1 `[b, H, W, c_a]`.
          valid: bool `[b, t]`: which memory frames count; None for all.
        """
        features = self.memory_encoder(query, self.to_prior(box))
        r4, r3, r2 = features
        feature = self.qma2(r4, memory.key2, memory.value2, valid)
        mask = self.mask_decoder(feature, r3, r2)
        refined = self.crm(stage1, feature, box, foreground(mask))
        return Segmented(mask, self.refine_decoder(refined, r3, r2), self._to_memory(features))

    def _answer(self, query, memory: Memory) -> dict[str, jax.Array]:
        located = self.locate(query, memory)
        segmented = self.segment(query, foreground(located.box), memory, located.feature)
        return {"box": located.box, "mask": segmented.mask, "refined": segmented.refined}

    def _to_memory(self, features: Features) -> Memory:
        arrays = (*self.qma1.memorize(features.r4), *self.qma2.memorize(features.r4))
        return Memory(*(x[:, None] for x in arrays))


def check_inputs(query, memory_images, memory_maps) -> None:
    """Raises `InputError` unless the shapes are what `QMRA.__call__` documents."""
    shapes = tuple(tuple(x.shape) for x in (query, memory_images, memory_maps))
    b, h, w = shapes[0][:3] if len(shapes[0]) == 4 else (0, 0, 0)
    t = shapes[1][1] if len(shapes[1]) == 5 else 0
    if shapes != ((b, h, w, 3), (b, t, h, w, 3), (b, t, h, w, 1)) or t == 0:
        raise InputError(
            f"query, memory_images, memory_maps of shapes {shapes[0]}, {shapes[1]}, {shapes[2]}:"
            " expected [b,h,w,3], [b,t,h,w,3], [b,t,h,w,1] with at least one memory frame"
        )
    if h % 16 or w % 16 or not h * w:
        raise InputError(
            f"images {h} high and {w} wide: both must be multiples of 16; pad with zeros"
        )


def build_model(config: Mapping[str, Any]) -> QMRA:
    """The network that `config.model` describes.

    Args:
      config: a mapping, ConfigDict or otherwise, from `QMRA`'s attributes to values; what is left
        out keeps the paper's value.

    Raises:
      InputError: if a key or a variant's name does not exist.
    """
    known = QMRA.__dataclass_fields__.keys() - {"parent", "name", "stats_axis"}
    unknown = sorted(set(config) - known)
    if unknown:
        raise InputError(
            f"model config has no {', '.join(unknown)}: expected {', '.join(sorted(known))}"
        )
    model = QMRA(**config)
    for name in ("key_dim", "value_dim", "decoder_dim"):
        width = getattr(model, name)
        if not isinstance(width, int) or width < 1:
            raise InputError(f"model {name} {width!r}: expected a whole number of at least 1")
    for name, values in (
        ("dtype", DTYPES),
        ("batch_norm", batch_norm.MODES),
        ("remat", REMATS),
    ):
        if getattr(model, name) not in values:
            raise InputError(
                f"model {name} {getattr(model, name)!r}: expected one of {', '.join(values)}"
            )
    # Linen would find these only when the module is first applied, after other work is done.
    variants.lookup("backbone", BACKBONES, model.backbone)
    variants.choose("reader", READERS, model.reader)
    variants.choose("aggregator", AGGREGATORS, model.aggregator)
    variants.choose("prior", PRIORS, model.prior)
    variants.choose("refine", REFINERS, model.refine)
    return model
