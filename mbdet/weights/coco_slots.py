"""The class slots of detectors trained on COCO."""

from torch import Tensor

# The slots are numbered by COCO's category ids, which run to 90; these ten name nothing.
UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
NUM_SLOTS = 91


def without_unused(tensor: Tensor, num_classes: int) -> Tensor:
    """Leave the unused slots out of each anchor's 91, so that labels are the places of COCO's 80 categories.

    Nothing was ever trained to be in them, so even a softmax gives them next to nothing.

    Args:
        tensor: Weight or bias of a class predictor, the outputs first.
        num_classes: K of the network. Unless it is 80 and there are 91 slots, the tensor stays as it is.
    """
    if num_classes != NUM_SLOTS - 1 - len(UNUSED_COCO_IDS) or tensor.shape[0] % NUM_SLOTS:
        return tensor
    used = [slot for slot in range(NUM_SLOTS) if slot not in UNUSED_COCO_IDS]
    return tensor.reshape(-1, NUM_SLOTS, *tensor.shape[1:])[:, used].flatten(0, 1)
