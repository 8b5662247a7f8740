"""STM (Oh et al., ICCV 2019), which QMRA builds on, as a variant of QMRA that starts from a mask.

    python train.py --config=configs/stm.py:pretrain --workdir=runs/stm_pretrain \\
      --config.init.encoders=resnet50-0676ba61.pth
    python train.py --config=configs/stm.py --workdir=runs/stm

    python train.py --config=configs/stm.py:small --workdir=runs/stm_small \\
      --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz

The official weights need no training: `qmra weights import-stm STM_weights.pth stm.safetensors`.

Not run by us. The STM paper reports: four GTX 1080 Ti, 4 days of pre-training and 3 of training; J
0.887, F 0.899 on DAVIS 2016 val from the first frame's mask.
From STM: the network; 384x384 in batches of 4; cross-entropy only; Adam at a fixed 1e-5; frozen
BatchNorm; affine-transformed images, then YouTube-VOS with DAVIS 2017, skipping 0 and later up to
25 frames in a triplet; a memory frame every 5.
Our choices: one object at a time, where STM trains on several together; pre-training on the
saliency sets and COCO, without VOC and SBD; 100,000 steps per stage, and when gaps grow; the second
memory frame has the predicted mask, as at inference, with gradients through it; the loss is of the
third frame only. `small` trains this network with this loss by the recipe of configs/small.py.
"""

from ml_collections import ConfigDict

from configs import common, small

MODEL = {  # what distinguishes STM's network from QMRA's; the widths are the same
    "stages": 1,
    "align": "mask",
    "reader": "dot",
    "aggregator": "none",
    "kv_kernel": 3,
    "prior": "odds",
    "refine": "none",
}
STATIC = ("ecssd:train", "msra10k:train", "coco_masks:train")
GAPS = ((0, 1), (10_000, 6), (20_000, 11), (30_000, 16), (40_000, 21), (50_000, 26))


def get_config(which: str = "") -> ConfigDict:
    """STM's main training; `which` is "", "pretrain" (the first stage) or "small"."""
    if which not in ("", "pretrain", "small"):
        raise ValueError(f"argument {which!r}: expected pretrain or small after the colon, or none")
    config = small.get_config() if which == "small" else common.get_config()
    config.model.update(MODEL)

    config.memory_maps = "predicted"
    config.predicted_gradient = True
    config.loss.dice_weight = 0.0
    config.eval.interval = 5
    if which == "small":
        return config

    config.batch_size = 4
    config.steps = 100_000
    config.checkpoint_every = 1000
    if which == "pretrain":
        config.data.static = STATIC
        config.data.videos = ()
        config.data.video_share = ((0, 0.0),)
        config.data.tps = 0.0
        config.data.shear = 10.0
        return config
    config.init_from = "runs/stm_pretrain"
    config.data.videos = ("youtube_vos/2018:train", "davis2017:train:2017@5")
    config.data.max_gap = GAPS
    return config
