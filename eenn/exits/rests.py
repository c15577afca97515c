"""Words for the rest, images that no active branch accepts: who answers and what is sent."""

CLOUD, DEVICE, NOBODY = "cloud", "device", "nobody"
RESTS = (CLOUD, DEVICE, NOBODY)
# The payload that is the photograph's file; the others are formats of features.
PHOTOGRAPH = "photograph"
