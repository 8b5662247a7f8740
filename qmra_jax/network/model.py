"""QMRA, the network of the paper's Figure 2.

    query --f_q--> qma1 (reads memory) --> box_decoder --> B_q                       stage 1
    query + B_q --f_m--> qma2 (reads memory) --> mask_decoder --> S_q                stage 2
    F_a, B_q, S_q --> crm --> refine_decoder --> S_q^r                               refinement

f_m also encodes the memory frames with their boxes: that is the siamese encoder, and what it makes
of the query joins the memory, so that no frame is encoded twice. A batch of one image may stand
beside several objects (the memory's batch); what does not depend on the object is computed once.

The paper's Table 3 takes parts of this away: see `QMRA`'s attributes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from qmra_jax.errors import InputError
from qmra_jax.network import variants
from qmra_jax.network.aggregation import QueryMemoryAggregation
from qmra_jax.network.decoder import Decoder
from qmra_jax.network.dinov2 import FEATURES
from qmra_jax.network.priors import PRIORS, foreground, rectified_prior
from qmra_jax.network.refinement import REFINERS
from qmra_jax.network.resnet import Encoder
from qmra_jax.network.structures import Answer, Located, Memory, Segmented


class QMRA(nn.Module):
    """Query-Memory Re-Aggregation. The defaults are the paper's: 53,235,782 parameters.

    Attributes:
      backbone: "resnet50" or "resnet18".
      key_dim: channels of the keys, c_k.
      value_dim: channels of the values, c_v.
      decoder_dim: width of the decoders.
      stages: 2, or 1: stage 1 alone, which then predicts the mask ("1stage").
      align: what stage 1 predicts, and stage 2's query carries: a "box" as the memory does, or the
        "mask" ("2stage-NoAlign"; memory frames keep boxes). With one stage: what memory frames
        carry, the tight box of the mask or, as in STM, the mask itself.
      siamese: whether f_m encodes stage 2's query, or an encoder of its own ("2stage-NoSiam").
      reader: a name of `memory_read.READERS`, with options ("dot:scale=False").
      aggregator: a name of `aggregation.AGGREGATORS`, with options ("bca:reduction=8").
      kv_kernel: size of the kernels that make keys and values: 1, or STM's 3.
      prior: a name of `priors.PRIORS`: what of stage 1's map stage 2 is told.
      refine: a name of `refinement.REFINERS`, with options ("crm:features=both").
      features: a name of `dinov2.FEATURES`: a frozen network whose tokens join r4, the feature of
        which keys and values are made, in both encoders. Its arrays are the collection "frozen".
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
    stages: int = 2
    align: str = "box"
    siamese: bool = True
    reader: str = "dot"
    aggregator: str = "bca"
    kv_kernel: int = 1
    prior: str = "soft"
    refine: str = "crm"
    features: str = "none"
    dtype: Any = "float32"
    batch_norm: str = "frozen"
    remat: str = "none"
    stats_axis: str | None = None

    def setup(self):
        qma = (self.key_dim, self.value_dim, self.reader, self.aggregator, self.kv_kernel)
        encoder = (self.backbone, self.dtype, self.stats_axis, self.remat != "none")
        decoder = nn.remat(Decoder) if self.remat == "all" else Decoder
        self.to_prior = variants.choose("prior", PRIORS, self.prior)
        self.frozen_features = variants.choose("features", FEATURES, self.features)(
            dtype=self.dtype
        )
        self.query_encoder = Encoder(*encoder)
        self.memory_encoder = Encoder(*encoder)
        self.qma1 = QueryMemoryAggregation(*qma, self.dtype)
        self.mask_decoder = decoder(self.decoder_dim, self.dtype)
        if self.stages == 1:
            return
        self.box_decoder = decoder(self.decoder_dim, self.dtype)
        if not self.siamese:
            self.refined_query_encoder = Encoder(*encoder)
        self.qma2 = QueryMemoryAggregation(*qma, self.dtype)
        self.crm = variants.choose("refine", REFINERS, self.refine)(dtype=self.dtype)
        if self.crm is not None:
            self.refine_decoder = decoder(self.decoder_dim, self.dtype)

    @property
    def targets(self) -> dict[str, str]:
        """What each output is trained on, in their order: the "box" (Eq. 10's B_l) or "mask"."""
        if self.stages == 1:
            return {"mask": "mask"}
        refined = {} if self.refine.partition(":")[0] == "none" else {"refined": "mask"}
        return {"box": self.align, "mask": "mask"} | refined

    @property
    def remembers(self) -> str:
        """What a memory frame's map shows: the object's filled "box", or in STM its "mask"."""
        return self.align if self.stages == 1 else "box"

    def __call__(self, query, memory_images, memory_maps) -> dict[str, jax.Array]:
        """The whole network on a query and its memory frames, as in training.

        Args:
          query: float32 `[b, h, w, 3]` RGB in [0, 1]; h and w multiples of 16.
          memory_images: float32 `[b, t, h, w, 3]`, likewise.
          memory_maps: float32 `[b, t, h, w, 1]` in [0, 1]: the memory frames' filled boxes, or
            masks where that is what the network `remembers`.

        Returns:
          float32 logits `[b, h, w, 2]` (background, foreground): "box" (B_q), "mask" (S_q) and
          "refined" (S_q^r), or those of them that `targets` names, in this order.

        Raises:
          InputError: if the shapes are not these.
        """
        check_inputs(query, memory_images, memory_maps)
        *stored, tokens = self._tokens_of_frames(query, memory_images)
        memory = self.memorize(
            rearrange(memory_images, "b t h w c -> (b t) h w c"),
            rearrange(memory_maps, "b t h w c -> (b t) h w c"),
            None if tokens is None else rearrange(stored, "t b h w c -> (b t) h w c"),
        )
        memory = jax.tree.map(
            lambda x: rearrange(x, "(b t) 1 h w c -> b t h w c", b=query.shape[0]), memory
        )
        return self._predict(query, memory, tokens=tokens)[0]

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
        tokens = self._tokens_of_frames(query, memory_images)
        memory = self.memorize(memory_images[:, 0], memory_maps[:, 0], tokens[0])
        for i in range(1, memory_images.shape[1]):
            image, given = memory_images[:, i], memory_maps[:, i]
            box = self.locate(image, memory, tokens=tokens[i]).box
            stored = self._to_stored(foreground(box))
            if not gradient:
                stored = jax.lax.stop_gradient(stored)
            stored = jnp.where(predicted[:, None, None, None], stored, given)
            frame = self.memorize(image, stored, tokens[i])
            memory = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), memory, frame)
        return self._predict(query, memory, tokens=tokens[-1])[0]

    def answer(self, query, memory: Memory, valid=None, given=None) -> Answer:
        """Both stages and the refinement, and the frame as a memory frame.

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          memory: of t frames.
          valid: bool `[b, t]`: which memory frames count; None for all.
          given: the map float32 `[b, h, w, 1]` that a user gave for this very frame. It stands for
            stage 1's box map, and is the frame's in the memory.
        """
        tokens = self._tokens(query)
        outputs, box, r4 = self._predict(query, memory, valid, given, tokens)
        if r4 is not None and self.siamese and self.align == "box":  # f_m has seen it already
            return Answer(outputs, box, self._to_memory(r4))
        stored = self._to_stored(box) if given is None else given
        return Answer(outputs, box, self.memorize(query, stored, tokens))

    def memorize(self, images, maps, tokens=None) -> Memory:
        """Encodes memory frames with f_m.

        Args:
          images: float32 `[b, h, w, 3]`; b may be 1 beside several maps.
          maps: float32 `[b, h, w, 1]` in [0, 1].
          tokens: the images' frozen features, where they are known already.

        Returns:
          their keys and values, each `[b, 1, H, W, c]`.
        """
        tokens = self._tokens(images) if tokens is None else tokens
        return self._to_memory(_join(self.memory_encoder(images, maps).r4, tokens))

    def locate(self, query, memory: Memory, valid=None, tokens=None) -> Located:
        """Stage 1 (Eq. 1-2): where is the object?

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          memory: of t frames.
          valid: bool `[b, t]`: which memory frames count; None for all.
          tokens: the query's frozen features, where they are known already.
        """
        tokens = self._tokens(query) if tokens is None else tokens
        r4, r3, r2 = self.query_encoder(query)
        feature = self.qma1(_join(r4, tokens), memory.key1, memory.value1, valid)
        decoder = self.mask_decoder if self.stages == 1 else self.box_decoder
        return Located(decoder(feature, r3, r2), feature)

    def segment(self, query, box, memory: Memory, stage1, valid=None, tokens=None) -> Segmented:
        """Stage 2 and the refinement (Eq. 3-5, Figure 4): which pixels are the object's?

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          box: foreground probability of stage 1's map, float32 `[b, h, w, 1]`, or a given box's.
          memory: of t frames.
          stage1: F_a of stage 1 `[b, H, W, c_a]`.
          valid: bool `[b, t]`: which memory frames count; None for all.
          tokens: the query's frozen features, where they are known already.
        """
        tokens = self._tokens(query) if tokens is None else tokens
        encoder = self.memory_encoder if self.siamese else self.refined_query_encoder
        r4, r3, r2 = encoder(query, self.to_prior(box))
        r4 = _join(r4, tokens)
        feature = self.qma2(r4, memory.key2, memory.value2, valid)
        mask = self.mask_decoder(feature, r3, r2)
        if self.crm is None:
            return Segmented(mask, None, r4)
        refined = self.crm(stage1, feature, box, foreground(mask))
        return Segmented(mask, self.refine_decoder(refined, r3, r2), r4)

    def key_features(self, query):
        """What the query's keys are made of: r4 of f_q and its frozen features.

        `[b, h, w, 3]` -> `[b, H, W, c]` and `[b, H, W, c_f]`, the latter None without such.
        """
        return self.query_encoder(query).r4, self._tokens(query)

    def _tokens(self, images):
        """The images' frozen features `[b, H, W, c_f]`, or None."""
        return None if self.frozen_features is None else self.frozen_features(images)

    def _tokens_of_frames(self, query, memory_images) -> list:
        """`_tokens` of each memory frame and, last, of the query, all made as one batch."""
        if self.frozen_features is None:
            return [None] * (memory_images.shape[1] + 1)
        frames = jnp.concatenate([memory_images, query[:, None]], axis=1)
        tokens = self._tokens(rearrange(frames, "b t h w c -> (b t) h w c"))
        return list(rearrange(tokens, "(b t) h w c -> t b h w c", t=frames.shape[1]))

    def _predict(self, query, memory: Memory, valid=None, given=None, tokens=None):
        """`answer`'s outputs and box, and the feature r4 of stage 2, None without one."""
        tokens = self._tokens(query) if tokens is None else tokens
        located = self.locate(query, memory, valid, tokens)
        found = foreground(located.box)
        box = found if given is None else given
        if self.stages == 1:
            return {"mask": located.box}, box, None
        told = box if self.align == "box" else found
        mask, refined, r4 = self.segment(query, told, memory, located.feature, valid, tokens)
        outputs = {"box": located.box, "mask": mask}
        outputs |= {} if refined is None else {"refined": refined}
        return outputs, box, r4

    def _to_memory(self, r4) -> Memory:
        """f_m's r4 `[b, H, W, c]` as a memory frame of both stages."""
        arrays = self.qma1.memorize(r4)
        if self.stages == 2:
            arrays = (*arrays, *self.qma2.memorize(r4))
        return Memory(*(x[:, None] for x in arrays))

    def _to_stored(self, probability):
        """A frame's map in the memory, of stage 1's foreground probability `[b, h, w, 1]`."""
        masks_become_boxes = self.remembers == "box" and "box" not in self.targets.values()
        return rectified_prior(probability) if masks_become_boxes else self.to_prior(probability)


def _join(r4, tokens):
    """r4 `[b, H, W, c]` with the tokens `[b, H, W, c_f]` behind it, whose b may be 1."""
    if tokens is None:
        return r4
    tokens = jnp.broadcast_to(tokens.astype(r4.dtype), (*r4.shape[:3], tokens.shape[-1]))
    return jnp.concatenate([r4, tokens], axis=-1)


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
