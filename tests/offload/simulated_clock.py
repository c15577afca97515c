"""A clock in place of the module `time`."""


class SimulatedClock:
    """It stands still, but for pauses, which are over at once, and for `look_s` at every look.

    `slept` are the pauses, and `looks` counts how often somebody looked.
    """

    def __init__(self) -> None:
        self.now, self.look_s = 1000.0, 0.0
        self.slept: list[float] = []
        self.looks = 0

    def monotonic(self) -> float:
        self.now += self.look_s
        self.looks += 1
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
