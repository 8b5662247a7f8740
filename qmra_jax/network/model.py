"""QMRA, the network of the paper's Figure 2 (Lin et al., AAAI 2021).

    memorize   F_m = f_m(I_m, B_m), its keys and values stored for both stages
    locate     stage 1, Eq. 1-2:  query --f_q--> qma1 (reads memory) --> box_decoder --> B_q
    segment    stage 2, Eq. 3-5:  query + B_q --f_m--> qma2 (reads memory) --> mask_decoder --> S_q
    refine     Figure 4:          F_a, B_q, S_q --> crm --> refine_decoder --> S_q^r

f_m encodes both the memory frames with their boxes and stage 2's query with its predicted box: that
is the siamese encoder. What it makes of the query joins the memory, so that no frame is encoded
twice. A batch of one image may stand beside several objects (the memory's batch); what does not
depend on the object is computed once.

The variants of the paper's Table 3 are attributes of `QMRA`. Frozen features (`dinov2.py`) are no
part of the paper: where a config names some, they stand behind r4 in every encoder's output.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from qmra_jax.network import variants
from qmra_jax.network.aggregation import QueryMemoryAggregation
from qmra_jax.network.decoder import Decoder
from qmra_jax.network.dinov2 import FEATURES
from qmra_jax.network.priors import PRIORS, foreground, rectified_prior
from qmra_jax.network.refinement import REFINERS
from qmra_jax.network.resnet import Encoder, Features
from qmra_jax.network.structures import (
    Answer,
    Located,
    Memory,
    Segmented,
    TokenizedImage,
    check_inputs,
)


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
        encoder = functools.partial(
            Encoder, self.backbone, self.dtype, self.stats_axis, self.remat != "none"
        )
        qma = functools.partial(
            QueryMemoryAggregation,
            *(self.key_dim, self.value_dim, self.reader, self.aggregator, self.kv_kernel),
            self.dtype,
        )
        decoder = functools.partial(
            nn.remat(Decoder) if self.remat == "all" else Decoder, self.decoder_dim, self.dtype
        )
        # A part that a variant does not call has no parameters.
        self.query_encoder = encoder()  # f_q
        self.memory_encoder = encoder()  # f_m
        self.refined_query_encoder = encoder()  # f_q^r where it is not f_m
        self.qma1, self.qma2 = qma(), qma()
        self.box_decoder, self.mask_decoder, self.refine_decoder = decoder(), decoder(), decoder()
        self.crm = variants.choose("refine", REFINERS, self.refine)(dtype=self.dtype)
        self.to_prior = variants.choose("prior", PRIORS, self.prior)
        features = variants.choose("features", FEATURES, self.features)
        self.frozen_features = features(dtype=self.dtype)

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
        query, frames = self._tokenize_all(query, memory_images)
        frames, maps = jax.tree.map(
            lambda x: rearrange(x, "b t h w c -> (b t) h w c"), (frames, memory_maps)
        )
        memory = jax.tree.map(
            lambda x: rearrange(x, "(b t) 1 h w c -> b t h w c", t=memory_images.shape[1]),
            self.memorize(frames, maps),
        )
        outputs, _, _ = self._predict(query, memory)
        return outputs

    def _predict(self, query, memory: Memory, valid=None, given_box=None):
        """Locates, segments and refines: `answer`'s outputs and box, and stage 2's r4 (or None)."""
        if self.stages == 1:
            return self._predict_in_one_stage(query, memory, valid, given_box)
        located = self.locate(query, memory, valid)
        predicted_box = foreground(located.box)
        box = predicted_box if given_box is None else given_box
        stage2_prior = box if self.align == "box" else predicted_box
        segmented = self.segment(query, stage2_prior, memory, located.feature, valid)
        outputs = {"box": located.box, "mask": segmented.mask, "refined": segmented.refined}
        return {name: outputs[name] for name in self.targets}, box, segmented.r4

    def memorize(self, images, maps) -> Memory:
        """Encodes memory frames: F_m = f_m(I_m, B_m) of Eq. 1 and 3.

        Args:
          images: float32 `[b, h, w, 3]`, or a `TokenizedImage`; b may be 1 beside several maps.
          maps: float32 `[b, h, w, 1]` in [0, 1].

        Returns:
          their keys and values, each `[b, 1, H, W, c]`.
        """
        return self._to_memory(self._encode(self.memory_encoder, self._tokenize(images), maps).r4)

    def locate(self, query, memory: Memory, valid=None) -> Located:
        """Stage 1 (Eq. 1-2): where is the object?

        Args:
          query: float32 `[b, h, w, 3]`, or a `TokenizedImage`; b may be 1 beside several objects.
          memory: of t frames.
          valid: bool `[b, t]`: which memory frames count; None for all.
        """
        r4, r3, r2 = self._encode(self.query_encoder, self._tokenize(query))  # F_q = f_q(I_q)
        feature = self.qma1(r4, memory.key1, memory.value1, valid)  # Eq. 1, and phi_1's F_a
        decoder = self.mask_decoder if self.stages == 1 else self.box_decoder
        return Located(decoder(feature, r3, r2), feature)  # Eq. 2: M_q, which is B_q

    def segment(self, query, box, memory: Memory, stage1, valid=None) -> Segmented:
        """Stage 2 (Eq. 3-5) and the refinement: which pixels are the object's?

        Args:
          query: float32 `[b, h, w, 3]`, or a `TokenizedImage`; b may be 1 beside several objects.
          box: foreground probability of stage 1's map, float32 `[b, h, w, 1]`, or a given box's.
          memory: of t frames.
          stage1: F_a of stage 1 `[b, H, W, c_a]`.
          valid: bool `[b, t]`: which memory frames count; None for all.
        """
        encoder = self.memory_encoder if self.siamese else self.refined_query_encoder  # Eq. 5, or 3
        r4, r3, r2 = self._encode(encoder, self._tokenize(query), self.to_prior(box))  # F_q^r
        feature = self.qma2(r4, memory.key2, memory.value2, valid)  # Eq. 3, and phi_2's F_a
        mask = self.mask_decoder(feature, r3, r2)  # Eq. 4: S_q
        refined = None
        if self.crm is not None:
            refined_feature = self.crm(stage1, feature, box, foreground(mask))  # Figure 4
            refined = self.refine_decoder(refined_feature, r3, r2)  # S_q^r
        return Segmented(mask, refined, r4)

    def answer(self, query, memory: Memory, valid=None, given_box=None) -> Answer:
        """Both stages and the refinement, and the frame as a memory frame.

        Args:
          query: float32 `[b, h, w, 3]`; b may be 1 beside several objects.
          memory: of t frames.
          valid: bool `[b, t]`: which memory frames count; None for all.
          given_box: the map float32 `[b, h, w, 1]` that a user gave for this very frame: the filled
            box, or the mask where the network `remembers` such. It stands for stage 1's map, and is
            the frame's in the memory.
        """
        query = self._tokenize(query)
        outputs, box, r4 = self._predict(query, memory, valid, given_box)
        if self.stages == 2 and self.siamese and self.align == "box":
            return Answer(outputs, box, self._to_memory(r4))  # F_q^r is f_m's already
        stored_map = self._to_stored(box) if given_box is None else given_box
        return Answer(outputs, box, self.memorize(query, stored_map))

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
        query, frames = self._tokenize_all(query, memory_images)
        first, *later = (
            jax.tree.map(lambda x, i=i: x[:, i], (frames, memory_maps))
            for i in range(memory_images.shape[1])
        )
        memory = self.memorize(*first)
        for image, given_map in later:
            stored_map = self._to_stored(foreground(self.locate(image, memory).box))
            if not gradient:
                stored_map = jax.lax.stop_gradient(stored_map)
            stored_map = jnp.where(predicted[:, None, None, None], stored_map, given_map)
            frame = self.memorize(image, stored_map)
            memory = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), memory, frame)
        outputs, _, _ = self._predict(query, memory)
        return outputs

    def _to_memory(self, r4) -> Memory:
        """f_m's r4 `[b, H, W, c]` as a memory frame of each stage."""
        qmas = (self.qma1, self.qma2)[: self.stages]
        return Memory(*(x[:, None] for qma in qmas for x in qma.memorize(r4)))

    # ------------------------------------------------------------------ variants

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

    def _predict_in_one_stage(self, query, memory: Memory, valid, given_map):
        """`_predict` by stage 1 alone, which is trained on the mask."""
        mask = self.locate(query, memory, valid).box
        return {"mask": mask}, foreground(mask) if given_map is None else given_map, None

    def _to_stored(self, probability):
        """A frame's map in the memory, of stage 1's foreground probability `[b, h, w, 1]`."""
        masks_become_boxes = self.remembers == "box" and "box" not in self.targets.values()
        return rectified_prior(probability) if masks_become_boxes else self.to_prior(probability)

    # ------------------------------------------------------------------ frozen features

    def key_features(self, query):
        """What the query's keys are made of: r4 of f_q and its frozen features.

        `[b, h, w, 3]` -> `[b, H, W, c]` and `[b, H, W, c_f]`, the latter None without such.
        """
        return self.query_encoder(query).r4, self._tokenize(query).tokens

    def _encode(self, encoder: Encoder, image: TokenizedImage, box_map=None) -> Features:
        """The encoder's features, and behind r4's channels the image's tokens.

        The image's b may be 1 beside several maps, `[b, h, w, 1]`.
        """
        features = encoder(image.image, box_map)
        if image.tokens is None:
            return features
        b, height, width, _ = features.r4.shape
        tokens = jnp.broadcast_to(image.tokens, (b, height, width, image.tokens.shape[-1]))
        r4 = jnp.concatenate([features.r4, tokens.astype(features.r4.dtype)], axis=-1)
        return features._replace(r4=r4)

    def _tokenize(self, image) -> TokenizedImage:
        """`[b, h, w, 3]` with its frozen features; a `TokenizedImage` stays as it is."""
        if isinstance(image, TokenizedImage):
            return image
        return TokenizedImage(
            image, None if self.frozen_features is None else self.frozen_features(image)
        )

    def _tokenize_all(self, query, memory_images) -> tuple[TokenizedImage, TokenizedImage]:
        """The query and the memory frames `[b, t, h, w, 3]`, their features made as one batch."""
        if self.frozen_features is None:
            return TokenizedImage(query), TokenizedImage(memory_images)
        images = jnp.concatenate([query[:, None], memory_images], axis=1)
        tokens = self.frozen_features(rearrange(images, "b n h w c -> (b n) h w c"))
        tokens = rearrange(tokens, "(b n) h w c -> b n h w c", b=len(query))
        return TokenizedImage(query, tokens[:, 0]), TokenizedImage(memory_images, tokens[:, 1:])
