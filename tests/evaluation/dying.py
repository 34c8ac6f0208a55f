"""Ways for a measuring process to end; apart from the tests so that it starts at once."""

import os
import signal
import time


def killed(job, connection):
    os.kill(os.getpid(), signal.SIGKILL)


def fails(job, connection):
    raise KeyError("a bug")


def never_ends(job, connection):
    time.sleep(600)
