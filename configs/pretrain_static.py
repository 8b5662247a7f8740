"""The paper's first stage: triplets made of still images (DUTS, HKU-IS, MSRA10K, SOC).

    python train.py --config=configs/pretrain_static.py --workdir=runs/pretrain \\
      --config.init.encoders=resnet50-0676ba61.pth

`--config=configs/pretrain_static.py:coco` adds COCO, as the last row of the paper's Table 3.
The datasets lie below $QMRA_DATA as `python -m data_pipeline.build` writes them.

Hardware: the paper's four GTX 1080 Ti (11 GB) share the batch of 16; on one GPU that cannot hold it
add --config.grad_accumulation=4. Expected time: not measured by us, and the paper names none.
Expected score of this stage by itself: the paper names none; after configs/youtube_vos.py, paper:
J 0.842 on DAVIS 2016's val, 0.847 with COCO.
The paper's: data, triplets, 384x384 in batches of 16, Adam at a fixed 1e-5. Ours: 100,000 steps,
as the paper names no number.
"""

from ml_collections import ConfigDict

from configs import common

STATIC = ("duts:train", "hku_is:train", "msra10k:train", "soc:train")
COCO = "coco_masks:train"


def get_config(extra: str = "") -> ConfigDict:
    """The pre-training stage; `extra` is "" or "coco"."""
    if extra not in ("", "coco"):
        raise ValueError(f"argument {extra!r}: expected coco after the colon, or none at all")
    config = common.get_config()
    config.data.static = (*STATIC, COCO) if extra else STATIC
    config.data.videos = ()
    config.data.video_share = ((0, 0.0),)
    config.batch_size = 16
    config.steps = 100_000
    config.checkpoint_every = 1000
    return config
