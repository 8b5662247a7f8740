"""`qmra weights`: what is in a weights file, and how to come by one.

JAX is imported inside the commands that need it, so that help and errors come at once.
"""

import json
import math
import runpy
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from qmra_jax.cli.options import Overwrite
from qmra_jax.errors import InputError

_HELP = """Show, export, average and convert weights files.

\b
Examples:
  qmra weights show weights/qmra-small.safetensors
  qmra weights export runs/small qmra-small.safetensors --dtype float16
  qmra weights average runs/small/checkpoints/1000 runs/small --output mean.safetensors
  qmra weights convert twin.pth small.safetensors --config configs/small.py
  qmra weights import-stm STM_weights.pth stm.safetensors
  qmra weights import-dinov2 dinov2_vits14_pretrain.pth dinov2.safetensors
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


class FileDtype(StrEnum):
    """Of stored weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class FrozenDtype(StrEnum):
    """Of stored frozen features."""

    int8 = "int8"


StoredDtype = Annotated[
    FileDtype, typer.Option(help="Of the stored weights; 16 bits halve the file, and round.")
]

StoredFrozenDtype = Annotated[
    FrozenDtype | None,
    typer.Option(
        help="Of the stored frozen features, such as DINOv2's; by default --dtype. int8 halves"
        " float16, with a scale for each output channel."
    ),
]

SuitedShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=16,
        help="Kept in the file: the frame size that suits these weights, in pixels of the shorter"
        " side, which `qmra segment` and evaluate.py then take by default.",
    ),
]


@app.command()
def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors, or PyTorch's .pth.")
    ],
) -> None:
    """Show the parameters, dtype and config in a weights file.

    \b
    Example:
      qmra weights show weights/qmra-small.safetensors
    """
    from qmra_jax.weights.state_dict_files import SCALE, read_metadata, read_state

    state = read_state(file)
    metadata = read_metadata(file) if file.suffix == ".safetensors" else {}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    counted = {k: v for k, v in state.items() if not k.endswith(SCALE)}
    learned = {k: v for k, v in counted.items() if not k.endswith(statistics)}
    lines = {
        "parameters": f"{sum(math.prod(v.shape) for v in learned.values()):,}",
        "tensors": f"{len(counted)}, of them {len(counted) - len(learned)} of batch statistics",
        "stored as": ", ".join(sorted({str(v.dtype) for v in learned.values()})),
        "size": f"{sum(v.nbytes for v in state.values()) / 1e6:.1f} MB",
    }
    model: dict[str, Any] = json.loads(metadata.pop("model", "{}"))
    typer.echo(str(file))
    _echo_table(lines | dict(sorted(metadata.items())))
    typer.echo("model" if model else "model: none in this file (see `qmra weights convert`)")
    _echo_table(model)


def _echo_table(rows: dict[str, Any]) -> None:
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        typer.echo(f"  {name:<{width}}  {value}")


@app.command()
def export(
    workdir: Annotated[Path, typer.Argument(metavar="WORKDIR", help="Of a run of train.py.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .safetensors to write.")],
    dtype: StoredDtype = FileDtype.float32,
    frozen_dtype: StoredFrozenDtype = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", help="Of the checkpoint; the newest if not given.")
    ] = None,
    short_side: SuitedShortSide = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a weights file of a training checkpoint.

    \b
    Examples:
      qmra weights export runs/small qmra-small.safetensors --dtype float16
      qmra weights export runs/small early.safetensors --step 500
    """
    from qmra_jax.weights.state_dict_files import check_target

    check_target(file, overwrite=overwrite)

    from qmra_jax.training.checkpoint import restore_model

    config, variables = restore_model(workdir, step)
    _save(file, variables, config.model, dtype, overwrite, frozen_dtype, short_side)


@app.command("average")
def average_weights(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A .safetensors, WORKDIR (its newest checkpoint) or WORKDIR/checkpoints/STEP.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .safetensors to write.")
    ],
    dtype: StoredDtype = FileDtype.float32,
    frozen_dtype: StoredFrozenDtype = None,
    short_side: SuitedShortSide = None,
    overwrite: Overwrite = False,
) -> None:
    """Make one weights file of the mean of several.

    Of checkpoints of one run, or of runs that went on from each other (`init_from`), the mean often
    does better than each. A source given twice counts twice.

    \b
    Example:
      qmra weights average runs/a/checkpoints/1000 runs/a/checkpoints/2000 --output mean.safetensors
    """
    from qmra_jax.weights.state_dict_files import check_target

    check_target(output, overwrite=overwrite)

    from qmra_jax.training.weight_averaging import average

    config, variables = average(sources)
    _save(output, variables, config, dtype, overwrite, frozen_dtype, short_side)


def _save(
    file: Path,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    dtype: FileDtype,
    overwrite: bool,
    frozen_dtype: FrozenDtype | None = None,
    short_side: int | None = None,
    **metadata: str,
) -> None:
    from qmra_jax.weights.safetensors_model import save

    if short_side is not None:
        metadata["short_side"] = str(short_side)
    save(
        file,
        variables,
        config,
        dtype=dtype,
        frozen_dtype=frozen_dtype,
        metadata=metadata,
        overwrite=overwrite,
    )
    typer.echo(str(file))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A state dict: .pth, .pt or .safetensors.")
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
    config: Annotated[
        Path, typer.Option(metavar="CONFIG.py", help="Whose config.model the state dict is of.")
    ],
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Make a weights file of a PyTorch state dict.

    Its names and layouts are those of `qmra_jax.weights.to_torch`: a PyTorch twin's, saved with
    torch.save(model.state_dict(), "twin.pth").

    \b
    Example:
      qmra weights convert twin.pth small.safetensors --config configs/small.py
    """
    from qmra_jax.weights.state_dict_files import check_target, read_state

    check_target(file, overwrite=overwrite)
    model_config = read_config(config).model
    state = read_state(source)

    from qmra_jax.weights.torch_names import from_torch

    _save(file, from_torch(state, model_config), model_config, dtype, overwrite)


@app.command("import-stm")
def import_stm(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="STM_weights.pth, or one trained by its code.")
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Make a weights file of the official STM checkpoint.

    Its authors give it at https://github.com/seoungwugoh/STM for non-commercial use (CC BY-NC-SA);
    PyTorch is not needed to read it. For one object the network is exactly theirs; of several each
    is seen by itself, as the weights that look at the other objects' masks are left out.

    \b
    Example:
      qmra weights import-stm STM_weights.pth stm.safetensors
    """
    from qmra_jax.weights.state_dict_files import check_target, read_state

    check_target(file, overwrite=overwrite)
    state = read_state(source)

    from qmra_jax.weights.stm import OTHERS, from_stm
    from qmra_jax.weights.torch_names import from_torch

    converted, config = from_stm(state)
    origin = f"STM (Oh et al. 2019), {source.name}"
    _save(file, from_torch(converted, config), config, dtype, overwrite, source=origin)
    if OTHERS in state:
        typer.echo(
            f"left out: {OTHERS}, for the other objects' mask; exact for one object", err=True
        )


@app.command("import-dinov2")
def import_dinov2(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="dinov2_vits14_pretrain.pth, or facebook/dinov2-small's model.safetensors.",
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Make a features file of DINOv2's ViT-S/14.

    Facebook gives it under Apache 2.0 at https://github.com/facebookresearch/dinov2 (the backbone
    without registers) and https://huggingface.co/facebook/dinov2-small; of .pth, .safetensors or
    .npz each may have either's names, and PyTorch is not needed to read it. The file has Hugging
    Face's names, without the mask token, which only DINOv2's training uses.

    \b
    Example:
      qmra weights import-dinov2 dinov2_vits14_pretrain.pth dinov2.safetensors --dtype float16
    """
    from qmra_jax.weights.state_dict_files import check_target

    check_target(file, overwrite=overwrite)

    from qmra_jax.network.build import build_model, variable_shapes
    from qmra_jax.weights import frozen_features

    like = variable_shapes(build_model({"features": "dinov2_vits14"}))["frozen"]
    features = frozen_features.load(source, like)
    origin = {"source": f"DINOv2 ViT-S/14 (Oquab et al. 2023), {source.name}"}
    frozen_features.save(file, features, dtype=dtype, metadata=origin, overwrite=overwrite)
    typer.echo(str(file))


def read_config(path: Path) -> Any:
    """What `get_config()` of a config file gives: an `ml_collections.ConfigDict`.

    Raises:
      InputError: if there is no such file or it has no get_config.
    """
    if not path.is_file():
        raise InputError(f"config {path} not found: expected a file such as configs/small.py")
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
    except Exception as error:  # whatever is wrong in somebody's file
        raise InputError(f"config {path} cannot be run ({type(error).__name__}: {error})") from None
    if get_config is None:
        raise InputError(f"config {path} has no get_config(): expected one, as configs/small.py")
    return get_config()
