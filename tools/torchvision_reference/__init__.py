"""torchvision's reference models and recipes on MobileNetV2, for `compare_torchvision.py`."""
