"""All settings, with the paper's values. Every other config starts from this one.

`--config.NAME=VALUE` sets a value on the command line, for instance
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
    config.model.stages = 2  # 2 | 1: only stage 1, which then predicts the mask
    config.model.align = "box"  # box | mask: what stage 1 predicts for stage 2's query
    config.model.siamese = True  # encode stage 2's query with the memory encoder
    # dot[:scale=False] | l2 | cosine | topk:k=30 | kernel:sigma=7 | none
    config.model.reader = "dot"
    config.model.aggregator = "bca"  # bca[:reduction=N] | query_only | memory_only | spatial | none
    config.model.kv_kernel = 1  # 1 | 3: of the key and value convolutions
    config.model.prior = "soft"  # soft | binary | odds | rectified: how stage 2 uses B_q
    config.model.refine = "crm"  # crm[:features=both] | crm_no_coord | none
    config.model.features = "none"  # none | dinov2_vits14: tokens of a frozen ViT beside r4
    config.model.dtype = "float32"  # float32 | bfloat16 | float16 (inference only)
    config.model.batch_norm = "frozen"  # frozen | sync: normalise by the batch of all devices
    config.model.remat = "none"  # none | encoders | all: saves memory, except on a CPU

    # Load the whole network from a run (WORKDIR or WORKDIR/checkpoints/STEP) or a .safetensors
    # file; the optimiser starts afresh. Empty: random weights, or init.encoders.
    config.init_from = ""

    config.init = ConfigDict()
    config.init.encoders = ""  # torchvision ResNet: .pth, .safetensors, .npz, or folder of .npy
    config.init.features = ""  # weights of model.features
    config.init.key_projection = "random"  # random | pca: of features of training images
    config.init.extra_channel = "zeros"  # zeros | random: f_m's fourth input channel

    config.data = ConfigDict()
    # Datasets, each "FOLDER[:SPLIT[:YEAR]][@REPEAT]": built by data_pipeline.build, or raw files.
    # @REPEAT is how often an item occurs per epoch, as in "davis2017:train@5". "synthetic" videos
    # are generated, so that any config trains without a download.
    config.data.root = ""  # parent of the folders; empty: $QMRA_DATA
    config.data.static = ()  # images: "duts", or a folder with images/ and masks/
    config.data.videos = ("synthetic",)  # "youtube_vos/2019:train", or a DAVIS-like folder
    config.data.video_share = ((0, 1.0),)  # (from step, share of video triplets), ...
    config.data.max_gap = ((0, 5),)  # (from step, largest gap between frames of a triplet)
    config.data.crop = 384  # pixels; a multiple of 16
    config.data.rotation = 20.0  # degrees, maximum
    config.data.scale = (0.9, 1.5)
    config.data.shift = 0.1  # of the crop, maximum
    config.data.shear = 0.0  # degrees, maximum
    config.data.flip = True
    config.data.tps = 0.05  # thin-plate spline warp: spread of control points, of the crop; 0: off
    config.data.colour_jitter = 0.0
    config.data.distractors = 0.0  # share of triplets with a pasted object of data.static
    config.data.lookalikes = 0.0  # share of those where it resembles the target, or is a copy
    config.data.negatives = 0.0  # share of triplets whose query lacks the target
    config.data.held_out = ()  # videos of raw folders to leave out: "davis2016/bear", ...
    config.data.loader = "tf.data"  # tf.data | processes: threads, or processes without TensorFlow
    config.data.workers = 0  # triplets made in parallel; 0: one per core
    config.data.prefetch = 2  # batches

    config.batch_size = 16  # triplets, over all devices
    config.steps = 100_000
    config.parallel = "pmap"  # pmap | shard_map
    config.cpu_devices = 0  # CPU devices to simulate, best as many as cores; 0: one
    config.grad_accumulation = 1  # micro-batches per step: saves memory, except on a CPU
    config.ema_decay = 0.0  # of the moving average of the weights that is evaluated; 0: none

    # Map of a triplet's second memory frame: the true box, what stage 1 predicts from the first
    # frame (as at inference), or either at random for each example.
    config.memory_maps = "truth"  # truth | predicted | mixed
    config.predicted_share = ((0, 0.5),)  # of mixed: (from step, share of examples), ...
    config.predicted_gradient = False  # backpropagate through the prediction

    config.loss = ConfigDict()
    config.loss.dice_weight = 0.1  # relative to cross-entropy
    # Cross-entropy of the hardest pixels of each example: (start step, end step, final share), the
    # share falling linearly from 1; STCN's is (20_000, 70_000, 0.15). (): all pixels.
    config.loss.bootstrap = ()

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # adam | sgd
    config.optimizer.learning_rate = 1e-5
    config.optimizer.encoder_scale = 1.0  # of the learning rate, for f_q and f_m
    config.optimizer.schedule = "constant"  # constant | linear_tail | polynomial | cosine
    config.optimizer.decay_share = 0.3  # of linear_tail: share of the steps
    config.optimizer.power = 0.9  # of polynomial
    config.optimizer.warmup_steps = 0
    config.optimizer.momentum = 0.9  # of sgd
    config.optimizer.weight_decay = 0.0  # of kernels; decoupled for adam, as in AdamW
    config.optimizer.decay_norm_and_bias = False  # decay biases and BatchNorm too
    config.optimizer.clip_norm = 0.0  # of the gradient; 0: no clipping

    # These, and a few others, may change when a run resumes (`qmra_jax.training.workdir.FREE`).
    config.log_every = 20
    config.picture_every = 500
    config.checkpoint_every = 500
    config.keep_checkpoints = 3  # the newest
    config.keep_best = 1  # in addition, those with the best eval.metric
    config.profile = ""  # FIRST:LAST: trace these steps, to WORKDIR/profile

    config.eval = ConfigDict()  # evaluation on held-out videos during training
    # Several processes do not notice SIGTERM during an evaluation. The state is saved before it, so
    # that being killed in it loses the evaluation only.
    config.eval.every = 0  # steps; 0: never
    config.eval.videos = "davis2016:val"  # FOLDER[:SPLIT[:YEAR]], below data.root or absolute
    config.eval.protocol = "davis2016"  # davis2016 | davis2017
    config.eval.short_side = 0  # pixels; larger frames are shrunk to it; 0: never
    config.eval.interval = 10  # every so many frames one stays in the memory
    config.eval.extra_frames = True  # False: memory of only the first and the previous frame
    config.eval.max_sequences = 0  # the first of the split; 0: all
    config.eval.metric = "J&F"  # J&F | J | F: selects the best checkpoints
    return config
