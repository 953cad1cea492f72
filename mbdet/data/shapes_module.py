"""The built-in data set for the Trainer."""

from pathlib import Path

from mbdet.data.detection import CocoDataModule
from mbdet.data.shapes import make_shapes
from mbdet.data.transforms import SSD_AUGMENTATION, Augmentation


class ShapesDataModule(CocoDataModule):
    """Scenes of shapes, drawn on first use.

    Args:
        root: Folder to draw them into.
        input_size: Height and width of the network input.
        seed: Of the scenes.
        num_train: Training images.
        num_val: Validation images.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split; 0 loads in the main process.
        augmentation: How strongly to augment in training; None only resizes.
    """

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        seed: int = 0,
        num_train: int = 2000,
        num_val: int = 160,
        batch_size: int = 32,
        num_workers: int = 1,
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        super().__init__(
            root, input_size, "train", "val", batch_size, num_workers, on_error="raise", augmentation=augmentation
        )
        self.seed = seed
        self.num_train = num_train
        self.num_val = num_val

    def prepare_data(self) -> None:
        """Draw the scenes unless they are there."""
        make_shapes(Path(self.root), seed=self.seed, num_train=self.num_train, num_val=self.num_val)
