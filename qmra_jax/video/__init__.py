"""Videos and folders of images as frames, and frames as videos."""
