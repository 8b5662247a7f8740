"""`qmra weights`: shows, exports, averages and converts weights files."""

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
from qmra_jax.weights.state_dict_files import SCALE, check_target, read_metadata, read_state

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


FileDtype = StrEnum("FileDtype", ["float32", "float16", "bfloat16"])
FrozenDtype = StrEnum("FrozenDtype", ["int8"])

OutputFile = Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")]

StoredDtype = Annotated[
    FileDtype, typer.Option(help="To store weights in; 16 bits halve the file but round.")
]

StoredFrozenDtype = Annotated[
    FrozenDtype | None,
    typer.Option(
        help="To store frozen features in, such as DINOv2's; by default --dtype. int8 has a scale"
        " per output channel."
    ),
]

SuitedShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=16,
        help="Frame size that suits these weights (shorter side in pixels); stored in the file as"
        " the default for inference.",
    ),
]
SuitedInterval = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Default --interval to store in the file.")
]
SuitedMaxMemory = Annotated[
    int | None, typer.Option(metavar="N", min=2, help="Default --max-memory to store in the file.")
]


@app.command()
def show(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .safetensors or PyTorch .pth, or a run's WORKDIR."),
    ],
) -> None:
    """Show the parameters, dtype and config of a weights file, or of a run's newest checkpoint.

    \b
    Examples:
      qmra weights show weights/qmra-small.safetensors
      qmra weights show runs/small
    """
    metadata: dict[str, str] = {}
    if file.is_dir():
        from qmra_jax.training.checkpoint import restore_model
        from qmra_jax.weights.torch_names import to_torch

        config, variables = restore_model(file)
        state = to_torch(variables)
        metadata["model"] = json.dumps(config.model.to_dict())
    else:
        state = read_state(file)
        if file.suffix == ".safetensors":
            metadata = read_metadata(file)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    counted = {k: v for k, v in state.items() if not k.endswith(SCALE)}
    learned = {k: v for k, v in counted.items() if not k.endswith(statistics)}
    lines = {
        "parameters": f"{sum(math.prod(v.shape) for v in learned.values()):,}",
        "tensors": f"{len(counted)}, {len(counted) - len(learned)} of them batch statistics",
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
    workdir: Annotated[Path, typer.Argument(metavar="WORKDIR", help="Of train.py.")],
    file: OutputFile,
    dtype: StoredDtype = FileDtype.float32,
    frozen_dtype: StoredFrozenDtype = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", help="Checkpoint to export; by default the newest.")
    ] = None,
    short_side: SuitedShortSide = None,
    interval: SuitedInterval = None,
    max_memory: SuitedMaxMemory = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a weights file from a training checkpoint.

    \b
    Examples:
      qmra weights export runs/small qmra-small.safetensors --dtype float16
      qmra weights export runs/small early.safetensors --step 500
    """
    check_target(file, overwrite=overwrite)
    from qmra_jax.training.checkpoint import restore_model

    config, variables = restore_model(workdir, step)
    settings = {"short_side": short_side, "interval": interval, "max_memory": max_memory}
    _save(file, variables, config.model, dtype, overwrite, frozen_dtype, settings)


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
    interval: SuitedInterval = None,
    max_memory: SuitedMaxMemory = None,
    overwrite: Overwrite = False,
) -> None:
    """Average several sources into one weights file.

    The mean of checkpoints of one run, or of runs that continue each other (`init_from`), is often
    better than each. A source given twice counts twice.

    \b
    Example:
      qmra weights average runs/a/checkpoints/1000 runs/a/checkpoints/2000 --output mean.safetensors
    """
    check_target(output, overwrite=overwrite)
    from qmra_jax.training.weight_averaging import average

    config, variables = average(sources)
    settings = {"short_side": short_side, "interval": interval, "max_memory": max_memory}
    _save(output, variables, config, dtype, overwrite, frozen_dtype, settings)


def _save(
    file: Path,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    dtype: FileDtype,
    overwrite: bool,
    frozen_dtype: FrozenDtype | None = None,
    settings: Mapping[str, int | None] | None = None,
    **metadata: str,
) -> None:
    from qmra_jax.weights.safetensors_model import save

    settings = settings or {}
    metadata |= {name: str(value) for name, value in settings.items() if value is not None}
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
    file: OutputFile,
    config: Annotated[
        Path,
        typer.Option(metavar="CONFIG.py", help="Config whose config.model fits the state dict."),
    ],
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Convert a PyTorch state dict into a weights file.

    Names and layouts must be those of `qmra_jax.weights.to_torch`, as a PyTorch twin's saved with
    torch.save(model.state_dict(), "twin.pth").

    \b
    Example:
      qmra weights convert twin.pth small.safetensors --config configs/small.py
    """
    check_target(file, overwrite=overwrite)
    model_config = read_config(config).model
    state = read_state(source)

    from qmra_jax.weights.torch_names import from_torch

    _save(file, from_torch(state, model_config), model_config, dtype, overwrite)


@app.command("import-stm")
def import_stm(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="STM_weights.pth, or trained with its code.")
    ],
    file: OutputFile,
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Convert the official STM checkpoint into a weights file.

    It is published at https://github.com/seoungwugoh/STM for non-commercial use (CC BY-NC-SA);
    PyTorch is not needed. Results are exact for one object; several are segmented independently, as
    the weights for the other objects' masks are left out.

    \b
    Example:
      qmra weights import-stm STM_weights.pth stm.safetensors
    """
    check_target(file, overwrite=overwrite)
    state = read_state(source)

    from qmra_jax.weights.stm import OTHERS, from_stm
    from qmra_jax.weights.torch_names import from_torch

    converted, config = from_stm(state)
    origin = f"STM (Oh et al. 2019), {source.name}"
    _save(file, from_torch(converted, config), config, dtype, overwrite, source=origin)
    if OTHERS in state:
        typer.echo(
            f"left out: {OTHERS}, for the masks of other objects; exact for one object", err=True
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
    file: OutputFile,
    dtype: StoredDtype = FileDtype.float32,
    overwrite: Overwrite = False,
) -> None:
    """Convert DINOv2's ViT-S/14 into a features file.

    It is published under Apache 2.0 at https://github.com/facebookresearch/dinov2 (the backbone
    without registers) and https://huggingface.co/facebook/dinov2-small. Both naming schemes are
    read, from .pth, .safetensors or .npz; PyTorch is not needed. The output has Hugging Face's
    names, without the mask token, which only DINOv2's training uses.

    \b
    Example:
      qmra weights import-dinov2 dinov2_vits14_pretrain.pth dinov2.safetensors --dtype float16
    """
    check_target(file, overwrite=overwrite)
    from qmra_jax.network.build import build_model, variable_shapes
    from qmra_jax.weights import frozen_features

    like = variable_shapes(build_model({"features": "dinov2_vits14"}))["frozen"]
    features = frozen_features.load(source, like)
    origin = {"source": f"DINOv2 ViT-S/14 (Oquab et al. 2023), {source.name}"}
    frozen_features.save(file, features, dtype=dtype, metadata=origin, overwrite=overwrite)
    typer.echo(str(file))


def read_config(path: Path) -> Any:
    """Loads a config file: the `ml_collections.ConfigDict` of its `get_config()`.

    Raises:
      InputError: if the file is missing, raises, or has no get_config.
    """
    if not path.is_file():
        raise InputError(f"config {path} not found: expected a file such as configs/small.py")
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
    except Exception as error:  # a config is arbitrary code
        raise InputError(f"config {path} cannot be run ({type(error).__name__}: {error})") from None
    if get_config is None:
        raise InputError(f"config {path} has no get_config(): expected one as in configs/small.py")
    return get_config()
