"""How a per-device step meets the devices: pmap, or jit of shard_map. Nothing else knows which."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qmra_jax.errors import InputError
from qmra_jax.train_step import AXIS

Step = Callable[[Any, Any], tuple[Any, Any]]
Devices = Sequence[jax.Device]


def check_batch(global_batch: int) -> None:
    """Raises `InputError` unless the devices share the batch evenly."""
    if global_batch < 1 or global_batch % jax.device_count():
        raise InputError(
            f"batch_size {global_batch} does not divide over {jax.device_count()} devices: give a"
            f" multiple of {jax.device_count()}"
        )


def with_pmap(step: Step, devices: Devices) -> Step:
    """`step` on every device by `jax.pmap`: state whole and replicated, batch split."""
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )
    local = sum(device.process_index == jax.process_index() for device in devices)

    def call(state, batch):
        return mapped(
            state, jax.tree.map(lambda x: rearrange(x, "(d b) ... -> d b ...", d=local), batch)
        )

    return call


def with_shard_map(step: Step, devices: Devices) -> Step:
    """`step` on every device by `jax.jit(jax.shard_map)`: the same numbers as `with_pmap`."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    mapped = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P())),
        donate_argnums=0,
    )
    split = NamedSharding(mesh, P(AXIS))

    def call(state, batch):
        return mapped(
            state,
            jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), batch),
        )

    return call


WRAPPERS: dict[str, Callable[[Step, Devices], Step]] = {
    "pmap": with_pmap,
    "shard_map": with_shard_map,
}


def parallelize(step: Step, mode: str = "pmap", devices: Devices | None = None) -> Step:
    """Wraps a per-device step.

    Args:
      step: (state, this device's share of the batch) -> (state, metrics), with collectives over
        the axis `train_step.AXIS`.
      mode: a name of `WRAPPERS`.
      devices: of all processes; None for all there are.

    Returns:
      (state, batch) -> (state, metrics): `state` one whole copy, which is donated; `batch` NumPy
      arrays `[local batch, ...]`, whose first axis the local devices share.

    Raises:
      InputError: if there is no such mode.
    """
    if mode not in WRAPPERS:
        raise InputError(f"parallel {mode!r}: expected one of {', '.join(WRAPPERS)}")
    return WRAPPERS[mode](step, devices or jax.devices())


def replicate(state, devices: Devices | None = None):
    """The state on every local device, as one whole copy that donation may consume."""
    mesh = Mesh(np.asarray(devices or jax.local_devices()), (AXIS,))
    return jax.device_put(state, NamedSharding(mesh, P()))
