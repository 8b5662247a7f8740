"""Every setting there is, at the paper's values. Other configs start from this one.

A value is changed on the command line with `--config.name=value`, for instance
`--config.model.aggregator=bca:reduction=8`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's network and training (Lin et al. 2021, "Implementation Details")."""
    config = ConfigDict()
    config.seed = 0

    config.model = ConfigDict()
    config.model.backbone = "resnet50"  # resnet50 | resnet18
    config.model.key_dim = 128
    config.model.value_dim = 512
    config.model.decoder_dim = 256
    config.model.stages = 2  # 2 | 1: stage 1 alone, which then predicts the mask
    config.model.align = "box"  # box | mask: what stage 1 predicts, and stage 2's query carries
    config.model.siamese = True  # whether the memory's encoder encodes stage 2's query too
    config.model.reader = (
        "dot"  # dot[:scale=False] | l2 | cosine | topk:k=30 | kernel:sigma=7 | none
    )
    config.model.aggregator = "bca"  # bca[:reduction=N] | query_only | memory_only | spatial | none
    config.model.kv_kernel = 1  # 1 | 3: of the convolutions that make keys and values
    config.model.prior = "soft"  # soft | binary | odds | rectified: what of B_q stage 2 is told
    config.model.refine = "crm"  # crm[:features=both] | crm_no_coord | none
    config.model.features = "none"  # none | dinov2_vits14: a frozen ViT's tokens beside r4
    config.model.dtype = "float32"  # of the computation: float32 | bfloat16; inference: | float16
    config.model.batch_norm = "frozen"  # frozen | sync: by the statistics of all devices' batch
    config.model.remat = "none"  # none | encoders | all: less memory, more time; no use on a CPU

    # The whole network from another run (its workdir, or WORKDIR/checkpoints/STEP) or from a
    # .safetensors file; its optimiser starts afresh. Empty: from random weights, or init.encoders.
    config.init_from = ""

    config.init = ConfigDict()
    config.init.encoders = ""  # torchvision ResNet: .pth, .safetensors, .npz, or folder of .npy
    config.init.features = ""  # DINOv2's weights, where model.features asks for them
    config.init.key_projection = (
        "random"  # random | pca: of the encoder's features of training images
    )
    config.init.extra_channel = "zeros"  # zeros | random: f_m's fourth input channel

    config.data = ConfigDict()
    # Datasets, each "FOLDER[:SPLIT[:YEAR]][@REPEAT]": what our builders wrote, or raw files.
    # @REPEAT is how often each item comes in an epoch, "davis2017:train@5". "synthetic" videos are
    # made on the spot, so that any config trains without a download.
    config.data.root = ""  # what the folders are relative to; empty: $QMRA_DATA
    config.data.static = ()  # images with masks: "duts", or a folder with images/ and masks/
    config.data.videos = ("synthetic",)  # "youtube_vos/2019:train", a folder in DAVIS's layout, ...
    config.data.video_share = ((0, 1.0),)  # (from step, share of video triplets), ...
    config.data.max_gap = ((0, 5),)  # (from step, frames between neighbours of a video triplet)
    config.data.crop = 384  # pixels; a multiple of 16
    config.data.rotation = 20.0  # degrees, at most
    config.data.scale = (0.9, 1.5)
    config.data.shift = 0.1  # of the crop, at most
    config.data.shear = 0.0  # degrees, at most
    config.data.flip = True
    config.data.tps = 0.05  # thin-plate splines: spread of a control point, of the crop; 0: none
    config.data.colour_jitter = 0.0
    config.data.distractors = 0.0  # share of triplets with an object of data.static pasted in
    config.data.lookalikes = 0.0  # share of those where it is like the target, or the target again
    config.data.negatives = 0.0  # share of triplets whose query does not show the target
    config.data.held_out = ()  # videos of raw folders never drawn from: "davis2016/bear", ...
    config.data.loader = "tf.data"  # tf.data: threads | processes, which need no TensorFlow
    config.data.workers = 0  # triplets made side by side; 0: one a core
    config.data.prefetch = 2  # batches made ahead

    config.batch_size = 16  # triplets, over all devices
    config.steps = 100_000
    config.parallel = "pmap"  # pmap | shard_map
    config.cpu_devices = 0  # on a CPU: devices to share the batch; 0: one. As many as cores is best

    config.grad_accumulation = 1  # micro-batches a step, in turn: less memory, but not on a CPU
    config.ema_decay = 0.0  # of a moving average of the weights, used to evaluate; 0: none

    # A triplet's second memory frame has the true box's map, or what stage 1 predicts from the
    # first frame, as at inference. mixed draws for each example.
    config.memory_maps = "truth"  # truth | predicted | mixed
    config.predicted_share = ((0, 0.5),)  # mixed's: (from step, share of examples), ...
    config.predicted_gradient = False  # whether the loss reaches the pass that predicts

    config.loss = ConfigDict()
    config.loss.dice_weight = 0.1  # beside cross-entropy's 1
    # (start step, end step, final share): cross-entropy of each example's hardest pixels alone,
    # their share falling from 1 to the final one; STCN's is (20_000, 70_000, 0.15). (): all pixels.
    config.loss.bootstrap = ()

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # adam | sgd
    config.optimizer.learning_rate = 1e-5
    config.optimizer.encoder_scale = 1.0  # of the learning rate, for f_q and f_m
    config.optimizer.schedule = "constant"  # constant | linear_tail | polynomial | cosine
    config.optimizer.decay_share = 0.3  # of the steps, linear_tail's
    config.optimizer.power = 0.9  # polynomial's
    config.optimizer.warmup_steps = 0
    config.optimizer.momentum = 0.9  # sgd's
    config.optimizer.weight_decay = 0.0  # of kernels; decoupled with adam, as in AdamW
    config.optimizer.decay_norm_and_bias = False  # whether it holds for biases and BatchNorm too
    config.optimizer.clip_norm = 0.0  # of the gradient; 0: not clipped

    # What may differ when a run is continued.
    config.log_every = 20
    config.picture_every = 500
    config.checkpoint_every = 500
    config.keep_checkpoints = 3  # the newest
    config.keep_best = 1  # and so many with the best eval.metric
    config.profile = ""  # FIRST:LAST: a trace of these steps, into WORKDIR/profile

    config.eval = ConfigDict()  # on held-out videos, while training
    # Steps; 0: never. Of several processes none notices SIGTERM until an evaluation is over; the
    # state was saved before it, so a grace period that ends in it costs the evaluation alone.
    config.eval.every = 0
    config.eval.videos = "davis2016:val"  # FOLDER[:SPLIT[:YEAR]], below data.root or absolute
    config.eval.protocol = "davis2016"  # davis2016 | davis2017
    config.eval.short_side = 0  # pixels to which larger frames are shrunk; 0: not shrunk
    config.eval.interval = 10  # frames between those that stay in the memory
    config.eval.extra_frames = True  # False: the memory is the first and the previous frame alone
    config.eval.max_sequences = 0  # of the split, from the first on; 0: all
    config.eval.metric = "J&F"  # J&F | J | F: the best checkpoints have the highest
    return config
