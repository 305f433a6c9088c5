"""Tasks for the tests of sweeps: they take no time, or as much as they are told to."""

import time

from gen.scale.task import works_on
from model.error import InputError


def square(*, value, seconds=0.0):
    time.sleep(seconds)
    return {"square": value * value, "odd": value % 2 == 1}


def refusing(*, value):
    if value == 2:
        raise InputError("two is too many")
    return {"value": value}


@works_on("a.txt")
def length(*, times, folder):
    return {"length": times * len((folder / "a.txt").read_bytes())}


def strange(*, value):
    return {"value": object()}
