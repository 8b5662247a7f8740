"""One host's share of the examples, in the order in which its batches take them."""

import dataclasses

from data_pipeline.triplets.examples import Examples
from data_pipeline.triplets.triplets import Triplet


@dataclasses.dataclass(frozen=True)
class HostExamples:
    """The examples of this host from a step on, by number; other processes get it by pickle.

    Attributes:
      examples: of all hosts.
      start_step: that example 0 belongs to.
      host_index: of this host.
      batch: examples of this host's part of a step.
    """

    examples: Examples
    start_step: int
    host_index: int
    batch: int

    @property
    def crop(self) -> int:
        """Side of the frames, in pixels."""
        return self.examples.augmentation.crop

    def __call__(self, n: int) -> tuple[str, Triplet]:
        """Makes example `n % batch` of this host's part of step `start_step + n // batch`.

        Returns:
          Where it is from, and the triplet.

        Raises:
          InputError: as `Examples`.
        """
        step, i = divmod(self.start_step * self.batch + n, self.batch)
        return self.examples(step * self.examples.global_batch + self.host_index * self.batch + i)
