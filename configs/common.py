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
    config.model.reader = "dot"  # dot | dot:scale=False
    config.model.aggregator = "bca"  # bca | bca:reduction=N
    config.model.prior = "soft"  # soft | binary | rectified: what of B_q stage 2 is told
    config.model.refine = "crm"  # crm | crm:features=both
    config.model.dtype = "float32"  # of the computation: float32 | bfloat16 | float16

    config.init = ConfigDict()
    config.init.encoders = ""  # torchvision ResNet: .pth, .safetensors, .npz, or folder of .npy
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
    config.data.workers = 0  # triplets made side by side; 0: one a core
    config.data.prefetch = 2  # batches made ahead

    config.batch_size = 16  # triplets, over all devices
    config.steps = 100_000
    config.parallel = "pmap"  # pmap | shard_map
    config.cpu_devices = 0  # on a CPU: devices to share the batch; 0: one. As many as cores is best

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-5
    config.optimizer.encoder_scale = 1.0  # of the learning rate, for f_q and f_m
    config.optimizer.schedule = "constant"  # constant | linear_tail | cosine
    config.optimizer.decay_share = 0.3  # of the steps, linear_tail's
    config.optimizer.warmup_steps = 0
    config.optimizer.weight_decay = 0.0  # decoupled, as in AdamW
    config.optimizer.clip_norm = 0.0  # of the gradient; 0: not clipped

    # What may differ when a run is continued.
    config.log_every = 20
    config.picture_every = 500
    config.checkpoint_every = 500
    config.keep_checkpoints = 3
    return config
