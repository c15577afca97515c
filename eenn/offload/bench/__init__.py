"""The offloading benchmark: contenders, the emulated link, the times of parts."""
