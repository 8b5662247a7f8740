"""The paper's second stage: YouTube-VOS's training videos, from the weights of the first.

    python train.py --config=configs/pretrain_static.py --workdir=runs/pretrain ...
    python train.py --config=configs/youtube_vos.py --workdir=runs/youtube_vos

It starts from runs/pretrain; another start is --config.init_from=DIR_OR_FILE. The videos lie below
$QMRA_DATA as `python -m data_pipeline.build youtube_vos/2018` writes them. Where DAVIS 2016 is, in
$QMRA_DATA/davis2016, --config.eval.every=5000 shows J&F on its val while training.

Hardware: the paper's four GTX 1080 Ti (11 GB) share the batch of 16; on one GPU that cannot hold it
add --config.grad_accumulation=4. Expected time: not measured by us, and the paper names none.
Expected scores, paper: DAVIS 2016's val J 0.847, F 0.871; DAVIS 2017's val J&F 0.719; YouTube-VOS's
valid G 0.676 (all with COCO in the first stage; without it J 0.842 on DAVIS 2016).
The paper's: data, three ordered frames with gaps to 5, 384x384 in batches of 16, Adam at a fixed
1e-5. Ours: 100,000 steps, as the paper names no number.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """The main stage."""
    config = common.get_config()
    config.init_from = "runs/pretrain"
    config.data.static = ()
    config.data.videos = ("youtube_vos/2018:train",)
    config.data.video_share = ((0, 1.0),)
    config.batch_size = 16
    config.steps = 100_000
    config.checkpoint_every = 1000
    return config
