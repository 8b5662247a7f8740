"""QMRA, the network of Figure 2 (Lin et al., AAAI 2021).

    memorize   F_m = f_m(I_m, B_m), stored as keys and values for both stages
    locate     stage 1, Eq. 1-2:  query --f_q--> qma1 (reads memory) --> box_decoder --> B_q
    segment    stage 2, Eq. 3-5:  query + B_q --f_m--> qma2 (reads memory) --> mask_decoder --> S_q
               Figure 4:          F_a, B_q, S_q --> crm --> refine_decoder --> S_q^r

f_m encodes both the memory frames with their boxes and stage 2's query with its predicted box (the
siamese encoder, Eq. 5). Its encoding of the query joins the memory, so no frame is encoded twice. A
batch of one image may go with a memory of several objects; what does not depend on the object is
computed once.

The variants of Table 3 are attributes of `QMRA`. Frozen features (`dinov2.py`) are not in the
paper: they are concatenated to r4 of every encoder's output.
"""

import dataclasses
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
    InferenceSettings,
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
      stages: 2, or 1 for stage 1 alone, which then predicts the mask ("1stage").
      align: what stage 1 predicts and stage 2's query carries: a "box", as the memory does, or a
        "mask" ("2stage-NoAlign"; memory frames keep boxes). With one stage: what memory frames
        carry, the tight box of the mask or, as in STM, the mask itself.
      siamese: whether f_m encodes stage 2's query; else f_q^r does ("2stage-NoSiam").
      reader: a name of `memory_read.READERS`, with options ("dot:scale=False").
      aggregator: a name of `aggregation.AGGREGATORS`, with options ("bca:reduction=8").
      kv_kernel: kernel size of the key and value convolutions: 1, or STM's 3.
      prior: a name of `priors.PRIORS`: how stage 1's map enters stage 2.
      refine: a name of `refinement.REFINERS`, with options ("crm:features=both").
      features: a name of `dinov2.FEATURES`: a frozen network whose tokens join r4, from which keys
        and values are computed, in both encoders. Its arrays are the collection "frozen".
      dtype: of the computation; parameters, statistics, softmaxes, BCA's weights and logits are
        float32.
      batch_norm: how the encoders' BatchNorm trains: "frozen" (stored statistics, as in STM) or
        "sync" (batch statistics over all devices). Inference always uses the stored ones.
      remat: what the backward pass recomputes: "none", "encoders" (all but the input of each
        residual block) or "all" (and all but the inputs of each decoder). XLA's CPU compiler merges
        the two computations again, so nothing is saved there.
      stats_axis: not a setting: the mapped axis, which the training step gives a "sync" network.
      inference: no part of the network: defaults of `Propagator`, which `qmra_jax.load` fills in.
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
    inference: InferenceSettings = dataclasses.field(
        default=InferenceSettings(), compare=False, repr=False
    )

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
        # Modules that a variant never calls have no parameters.
        self.query_encoder = encoder()  # f_q
        self.memory_encoder = encoder()  # f_m
        self.refined_query_encoder = encoder()  # f_q^r, unless it is f_m
        self.qma1, self.qma2 = qma(), qma()
        self.box_decoder, self.mask_decoder, self.refine_decoder = decoder(), decoder(), decoder()
        self.crm = variants.choose("refine", REFINERS, self.refine)(dtype=self.dtype)
        self.to_prior = variants.choose("prior", PRIORS, self.prior)
        features = variants.choose("features", FEATURES, self.features)
        self.frozen_features = features(dtype=self.dtype)

    def __call__(self, query, memory_images, memory_maps) -> dict[str, jax.Array]:
        """Predicts a query frame from memory frames, as in training.

        Args:
          query: I_q, float32 `[b, h, w, 3]` RGB in [0, 1]; h and w multiples of 16.
          memory_images: I_m, float32 `[b, t, h, w, 3]`, likewise.
          memory_maps: B_m, float32 `[b, t, h, w, 1]` in [0, 1]: the memory frames' filled boxes, or
            masks if `remembers` says so.

        Returns:
          float32 logits `[b, h, w, 2]` (background, foreground): "box" (B_q), "mask" (S_q) and
          "refined" (S_q^r), or those of them that are in `targets`, in this order.

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
        return self._predict(query, memory)[0]

    def memorize(self, images, maps) -> Memory:
        """Encodes memory frames: F_m = f_m(I_m, B_m) of Eq. 1 and 3.

        Args:
          images: float32 `[b or 1, h, w, 3]`, or a `TokenizedImage`.
          maps: float32 `[b, h, w, 1]` in [0, 1].

        Returns:
          their keys and values, each `[b, 1, H, W, c]`.
        """
        return self._to_memory(self._encode(self.memory_encoder, images, maps).r4)

    def locate(self, query, memory: Memory, valid=None) -> Located:
        """Stage 1 (Eq. 1-2): where is the object?

        Args:
          query: I_q, float32 `[b or 1, h, w, 3]`, or a `TokenizedImage`.
          memory: of t frames.
          valid: bool `[b, t]`, which memory frames to read; None for all.
        """
        r4, r3, r2 = self._encode(self.query_encoder, query)  # F_q = f_q(I_q)
        feature = self.qma1(r4, memory.key1, memory.value1, valid)  # Eq. 1: A_1; phi_1's F_a
        decoder = self.mask_decoder if self.stages == 1 else self.box_decoder
        return Located(decoder(feature, r3, r2), feature)  # Eq. 2: M_q = B_q

    def segment(self, query, box, memory: Memory, stage1, valid=None) -> Segmented:
        """Stage 2 (Eq. 3-5) and the refinement: which pixels are the object's?

        Args:
          query: I_q, float32 `[b or 1, h, w, 3]`, or a `TokenizedImage`.
          box: foreground probability of stage 1's map B_q, float32 `[b, h, w, 1]`, or a given box.
          memory: of t frames.
          stage1: F_a of stage 1 `[b, H, W, c_a]`.
          valid: bool `[b, t]`, which memory frames to read; None for all.
        """
        encoder = self.memory_encoder if self.siamese else self.refined_query_encoder  # Eq. 5, or 3
        r4, r3, r2 = self._encode(encoder, query, self.to_prior(box))  # F_q^r = f_m(I_q, M_q)
        feature = self.qma2(r4, memory.key2, memory.value2, valid)  # Eq. 3: A_2; phi_2's F_a
        mask = self.mask_decoder(feature, r3, r2)  # Eq. 4: S_q
        refined = None
        if self.crm is not None:
            refined_feature = self.crm(stage1, feature, box, foreground(mask))  # Figure 4
            refined = self.refine_decoder(refined_feature, r3, r2)  # S_q^r
        return Segmented(mask, refined, r4)

    def _predict(self, query, memory: Memory, valid=None, given_box=None):
        """Both stages: outputs by name, stage 1's map or the given box, stage 2's r4 or None."""
        if self.stages == 1:
            return self._predict_in_one_stage(query, memory, valid, given_box)
        located = self.locate(query, memory, valid)
        predicted_box = foreground(located.box)
        box = predicted_box if given_box is None else given_box
        stage2_box = box if self.align == "box" else predicted_box
        segmented = self.segment(query, stage2_box, memory, located.feature, valid)
        outputs = {"box": located.box, "mask": segmented.mask, "refined": segmented.refined}
        return {name: outputs[name] for name in self.targets}, box, segmented.r4

    def answer(self, query, memory: Memory, valid=None, given_box=None) -> Answer:
        """Predicts a frame and memorizes it, as in inference.

        Args:
          query: I_q, float32 `[b or 1, h, w, 3]`.
          memory: of t frames.
          valid: bool `[b, t]`, which memory frames to read; None for all.
          given_box: the user's map of this very frame, float32 `[b, h, w, 1]`: the filled box, or
            the mask if `remembers` says so. It replaces stage 1's map, also in the memory.
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
        """`__call__` with the memory of inference, where only the first frame's box is given.

        The map of memory frame i > 0 is what inference would have stored: the prior of its B_q,
        located from frames 0 to i - 1. This costs one pass of stage 1 a frame and none of f_m.

        Args:
          query: as in `__call__`.
          memory_images: as in `__call__`.
          memory_maps: as in `__call__`.
          predicted: bool `[b]`, the examples with predicted maps; the others keep the given ones.
          gradient: whether gradients flow through the predicted maps.

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
        return self._predict(query, memory)[0]

    def _to_memory(self, r4) -> Memory:
        """f_m's r4 `[b, H, W, c]` as a memory frame of each stage."""
        qmas = (self.qma1, self.qma2)[: self.stages]
        return Memory(*(x[:, None] for qma in qmas for x in qma.memorize(r4)))

    # ------------------------------------------------------------------ variants

    @property
    def targets(self) -> dict[str, str]:
        """Output -> its ground truth, "box" (B_l of Eq. 10) or "mask" (S_l), in output order."""
        if self.stages == 1:
            return {"mask": "mask"}
        refined = {} if self.refine.partition(":")[0] == "none" else {"refined": "mask"}
        return {"box": self.align, "mask": "mask"} | refined

    @property
    def remembers(self) -> str:
        """The kind of a memory frame's map: the object's filled "box", or in STM its "mask"."""
        return self.align if self.stages == 1 else "box"

    def _predict_in_one_stage(self, query, memory: Memory, valid, given_map):
        """`_predict` by stage 1 alone, which is trained on the mask."""
        mask = self.locate(query, memory, valid).box
        return {"mask": mask}, foreground(mask) if given_map is None else given_map, None

    def _to_stored(self, probability):
        """A frame's map in the memory, from stage 1's foreground probability `[b, h, w, 1]`."""
        masks_become_boxes = self.remembers == "box" and "box" not in self.targets.values()
        return rectified_prior(probability) if masks_become_boxes else self.to_prior(probability)

    # ------------------------------------------------------------------ frozen features

    def key_features(self, query):
        """What the query's keys are computed from: f_q's r4 and the frozen features.

        `[b, h, w, 3]` -> `[b, H, W, c]` and `[b, H, W, c_f]`, the latter None without features.
        """
        return self.query_encoder(query).r4, self._tokenize(query).tokens

    def _encode(self, encoder: Encoder, image, box_map=None) -> Features:
        """The encoder's features of `[b or 1, h, w, 3]`, with the image's tokens joined to r4."""
        image, tokens = self._tokenize(image)
        features = encoder(image, box_map)
        if tokens is None:
            return features
        b, height, width, _ = features.r4.shape
        tokens = jnp.broadcast_to(tokens, (b, height, width, tokens.shape[-1]))
        r4 = jnp.concatenate([features.r4, tokens.astype(features.r4.dtype)], axis=-1)
        return features._replace(r4=r4)

    def _tokenize(self, image) -> TokenizedImage:
        """`[b, h, w, 3]` with its frozen features; a `TokenizedImage` is returned as it is."""
        if isinstance(image, TokenizedImage):
            return image
        tokens = None if self.frozen_features is None else self.frozen_features(image)
        return TokenizedImage(image, tokens)

    def _tokenize_all(self, query, memory_images) -> tuple[TokenizedImage, TokenizedImage]:
        """The query and the memory frames `[b, t, h, w, 3]`, tokenized as one batch."""
        if self.frozen_features is None:
            return TokenizedImage(query), TokenizedImage(memory_images)
        images = jnp.concatenate([query[:, None], memory_images], axis=1)
        tokens = self.frozen_features(rearrange(images, "b n h w c -> (b n) h w c"))
        tokens = rearrange(tokens, "(b n) h w c -> b n h w c", b=len(query))
        return TokenizedImage(query, tokens[:, 0]), TokenizedImage(memory_images, tokens[:, 1:])
