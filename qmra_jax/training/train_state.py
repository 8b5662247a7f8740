"""The training state: a tree of arrays that is replicated over devices and saved as it is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """The state of a run.

    Attributes:
      step: int32 scalar, number of steps done.
      params: float32 parameter tree.
      batch_stats: BatchNorm's running statistics; constant unless BatchNorm is synchronised.
      opt_state: state of the optimiser.
      ema_params: moving average of `params`, or None if the run keeps none.
      frozen: the network's frozen features, or None. Checkpoints store only their digest.
      halted: bool scalar, whether a step met a non-finite loss or gradient. That step and all later
        ones change nothing else: the rest is the state of the last good step.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema_params: Any
    frozen: Any
    halted: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to evaluate and export: averaged parameters if there is an average."""
        params = self.params if self.ema_params is None else self.ema_params
        return self.collections(params, self.batch_stats)

    def collections(self, params, batch_stats) -> dict[str, Any]:
        """Variables for the network: these two collections and the frozen features, if any."""
        frozen = {} if self.frozen is None else {"frozen": self.frozen}
        return {"params": params, "batch_stats": batch_stats} | frozen

    def split(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two items of a checkpoint: for evaluation, and the rest, to resume training."""
        training = {"opt_state": self.opt_state, "step": self.step}
        if self.ema_params is not None:
            training["params"] = self.params
        model = {name: self.variables[name] for name in ("params", "batch_stats")}
        return model, training

    def joined(self, model: dict[str, Any], training: dict[str, Any]) -> "TrainState":
        """The inverse of `split`, for a state with the structure of this one."""
        has_average = self.ema_params is not None
        return self.replace(
            step=training["step"],
            params=training["params"] if has_average else model["params"],
            batch_stats=model["batch_stats"],
            opt_state=training["opt_state"],
            ema_params=model["params"] if has_average else None,
            halted=np.zeros((), bool),
        )


def create_train_state(
    variables, optimizer: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """The state at step 0; with a moving average of the parameters if `ema`."""
    variables = jax.tree.map(jnp.asarray, dict(variables))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        # A copy: the step donates its state, and no buffer can be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
        frozen=variables.get("frozen"),
        halted=jnp.zeros((), bool),
    )
