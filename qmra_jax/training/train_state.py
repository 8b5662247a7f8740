"""What training changes from step to step: data only, to be sharded and saved as it is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """The state of a run.

    Attributes:
      step: int32 scalar: steps done.
      params: float32 parameter tree.
      batch_stats: BatchNorm's stored statistics; they change where it is synchronised.
      opt_state: the optimiser's.
      ema_params: the parameters' moving average, or None where the run keeps none.
      frozen: the arrays of the network's frozen features, or None without such; not saved, as a
        checkpoint names them by their digest.
      halted: bool scalar: a step met a loss or gradient that is not finite. It and all later steps
        changed nothing else: the state is that of the last good step.
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
        """What to evaluate and export: the average of the parameters where there is one."""
        params = self.params if self.ema_params is None else self.ema_params
        return self.collections(params, self.batch_stats)

    def collections(self, params, batch_stats) -> dict[str, Any]:
        """These, and the frozen features where there are any, as the network takes them."""
        frozen = {} if self.frozen is None else {"frozen": self.frozen}
        return {"params": params, "batch_stats": batch_stats} | frozen

    def split(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What evaluation needs, and what only going on with the training needs."""
        training = {"opt_state": self.opt_state, "step": self.step}
        if self.ema_params is not None:
            training["params"] = self.params
        model = {name: self.variables[name] for name in ("params", "batch_stats")}
        return model, training

    def joined(self, model: dict[str, Any], training: dict[str, Any]) -> "TrainState":
        """The state whose `split` these are, with an average if this one has one."""
        averaged = self.ema_params is not None
        return self.replace(
            step=training["step"],
            params=training["params"] if averaged else model["params"],
            batch_stats=model["batch_stats"],
            opt_state=training["opt_state"],
            ema_params=model["params"] if averaged else None,
            halted=np.zeros((), bool),
        )


def create_train_state(
    variables, optimizer: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """A state at step 0 with these variables, and with an average of them if `ema`."""
    params = jax.tree.map(jnp.asarray, variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=jax.tree.map(jnp.asarray, variables["batch_stats"]),
        opt_state=optimizer.init(params),
        frozen=jax.tree.map(jnp.asarray, variables["frozen"]) if "frozen" in variables else None,
        # A copy: the step is donated its state, and no buffer can be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
        halted=jnp.zeros((), bool),
    )
