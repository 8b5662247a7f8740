"""A picture of training triplets: what the network is about to be shown.

    python -m data_pipeline.show --config=configs/small.py --output=triplets.png
    python -m data_pipeline.show --config=configs/small.py --output=late.png --step=1000 --count=12
    python -m data_pipeline.show --config=configs/small.py --output=mild.png --config.data.tps=0.02

Each row is a triplet: two memory frames with their boxes, then the query with its mask. Prints
where each is from. The rows are the very examples that training sees from that step on.
"""

from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image

from data_pipeline.examples import open_examples
from qmra_jax.errors import InputError, run_app
from qmra_jax.visualize import triplet_sheet

_CONFIG = config_flags.DEFINE_config_file("config", None, "The training config.")
_OUTPUT = flags.DEFINE_string("output", None, "The .png to write; an older one is replaced.")
_COUNT = flags.DEFINE_integer("count", 8, "How many triplets.", lower_bound=1)
_STEP = flags.DEFINE_integer("step", 0, "The training step to start at.", lower_bound=0)


def main(_) -> None:
    """Writes the sheet."""
    config, output = _CONFIG.value, Path(_OUTPUT.value or "")
    if output.suffix.lower() != ".png" or not output.parent.is_dir():
        raise InputError(f"--output={output}: expected a .png in a folder that exists")
    examples = open_examples(config.data, seed=config.seed, global_batch=config.batch_size)
    first = _STEP.value * config.batch_size
    names, triplets = zip(*map(examples, range(first, first + _COUNT.value)), strict=True)
    images, masks, boxes = (np.stack(part) for part in zip(*triplets, strict=True))
    Image.fromarray(triplet_sheet(images, masks, boxes)).save(output)
    print(*names, f"wrote {output}", sep="\n")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "output"])
    run_app(main)
