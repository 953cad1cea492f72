"""Cameras, videos and pictures through a model, as they come; without torch for exported files."""
