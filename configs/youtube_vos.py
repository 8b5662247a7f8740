"""The paper's second stage: YouTube-VOS's training videos, from the weights of the first stage.

    python train.py --config=configs/pretrain_static.py --workdir=runs/pretrain ...
    python train.py --config=configs/youtube_vos.py --workdir=runs/youtube_vos

It starts from runs/pretrain, or from --config.init_from=DIR_OR_FILE. `python -m data_pipeline.build
youtube_vos/2018` writes the videos to $QMRA_DATA. With DAVIS 2016 in $QMRA_DATA/davis2016,
--config.eval.every=5000 evaluates J&F on its val during training.

Hardware: the paper's four GTX 1080 Ti (11 GB) share the batch of 16; on one smaller GPU add
--config.grad_accumulation=4. Time: not measured by us, not given in the paper. Scores in the paper:
J 0.847, F 0.871 on DAVIS 2016 val; J&F 0.719 on DAVIS 2017 val; G 0.676 on YouTube-VOS valid (all
with COCO in the first stage; without it J 0.842 on DAVIS 2016).
From the paper: data, three ordered frames with gaps up to 5, 384x384 in batches of 16, Adam at a
fixed 1e-5. Our choice: 100,000 steps, as the paper gives no number.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """The second stage."""
    config = common.get_config()
    config.init_from = "runs/pretrain"
    config.data.static = ()
    config.data.videos = ("youtube_vos/2018:train",)
    config.data.video_share = ((0, 1.0),)
    config.batch_size = 16
    config.steps = 100_000
    config.checkpoint_every = 1000
    return config
