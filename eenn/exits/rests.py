"""The words for who answers an image that no active branch accepts, and what the cloud is sent."""

CLOUD, DEVICE, NOBODY = "cloud", "device", "nobody"
RESTS = (CLOUD, DEVICE, NOBODY)
# The payload that is the photograph's file; the others are formats of features.
PHOTOGRAPH = "photograph"
