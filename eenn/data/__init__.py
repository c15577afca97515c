"""Images and labels: sources, splits, distortions, augmentation and the data module."""
