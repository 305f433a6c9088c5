"""A program on a device: images in, classes and counters out."""

import time

import numpy as np

from gen.compile.package import image_words, logits_of
from gen.device.port import LinkError
from hw.config import RECORD_WORDS
from hw.register import config_digest
from model.error import WeightsMismatch
from model.progress import track


__all__ = ["Session", "classify"]


class Session:
    """A program on a device: images in, classes and counters out.

    Parameters
    ----------
    device : gen.device.device.Device
    image : gen.compile.package.ProgramImage

    Raises
    ------
    WeightsMismatch
        If the device was built for another configuration.
    """

    def __init__(self, device, image):
        info = device.info()
        wanted = config_digest(image.config)
        if info.config_digest != wanted:
            raise WeightsMismatch(
                f"The device has configuration {info.config_digest:#010x}, the program needs "
                f"{wanted:#010x}: load the bitstream of this build (--program)")
        if info.memory_words < image.memory_words:
            raise WeightsMismatch(f"The device has {info.memory_words} words of memory, the "
                                  f"program needs {image.memory_words}")
        self._device = device
        self._image = image
        # Images beside the program's own place where the memory has room: fewer, longer runs.
        free = info.memory_words - image.memory_words
        per_image = image.image_words + image.result_words
        self.batch = max(1, free // per_image)
        self._base = image.memory_words if free >= per_image else None

    def load(self, progress=None):
        """Write program, weights and constants."""
        self._device.write(0, self._image.payload, progress=progress)

    def check(self, progress=None):
        """Read program, weights and constants back, and compare.

        A link without an error says nothing of the memory behind it: one wrong bit of a weight
        gives other results, one of a descriptor may stop the core.

        Raises
        ------
        LinkError
            Naming the first word that is not what was written.
        """
        wanted = self._image.payload
        found = self._device.read(0, len(wanted), progress=progress)
        wrong = np.flatnonzero(found != wanted)
        if len(wrong):
            word = int(wrong[0])
            raise LinkError(
                f"The board's memory does not hold what was written: {len(wrong)} of "
                f"{len(wanted)} words differ, the first at {word} ({int(found[word]):#018x}, "
                f"not {int(wanted[word]):#018x}); load again, with a slower memory clock if it "
                "stays (sdram_mhz)")

    def run(self, images, *, timeout, progress=None):
        """Run at most :attr:`batch` images int8 (N, C, H, W).

        Returns
        -------
        (acc, logits, counters)
            Raw results int64 and scores float64 (N, classes); counters of the whole run.
        """
        image, device = self._image, self._device
        count = len(images)
        if not 1 <= count <= self.batch:
            raise ValueError(f"Images must be 1..{self.batch}, not {count}")
        first, result = image.image, image.result
        if self._base is not None:
            first = self._base
            result = first + self.batch * image.image_words
        for index, values in enumerate(images):
            device.write(first + index * image.image_words, image_words(image, values))
        # What the run must write is erased first: a device that restarts on the way leaves zeros,
        # never an old result.
        record = image.log + RECORD_WORDS * (image.descriptors - 1)
        device.write(result, np.zeros(count * image.result_words, np.uint64))
        device.write(record, np.zeros(RECORD_WORDS, np.uint64))
        device.start(program=image.program, log=image.log, image=first,
                     image_stride=image.image_words, result=result,
                     result_stride=image.result_words, count=count)
        device.wait(timeout=timeout, progress=progress)
        words = device.read(result, count * image.result_words)
        outcome = [logits_of(image, part) for part in words.reshape(count, -1)]
        acc, logits = (np.stack(part) for part in zip(*outcome, strict=True))
        counters = device.counters()
        _check_run(counters, device.read(record, RECORD_WORDS), count, image.descriptors)
        if counters["ERRORS"]:
            raise LinkError(f"The core reports memory collisions ({counters['ERRORS']:#x}): "
                            f"the results are void")
        return acc, logits, counters


def _check_run(counters, record, count, descriptors):
    """Raise :exc:`LinkError` unless the device tells of a whole run, to its last descriptor.

    A device that restarted has counters of 0, and the last completion record of the program is as
    the host has erased it.
    """
    end = int(record[1]) >> 32
    if (counters["IMAGES"] != count or counters["DESCRIPTORS"] != count * descriptors
            or not 0 < end <= counters["CYCLES"]):
        raise LinkError(
            f"The device did not run the program to its end: {counters['IMAGES']} of {count} "
            f"images, {counters['DESCRIPTORS']} of {count * descriptors} descriptors, last record "
            f"at cycle {end}. It may have restarted (power, USB): the results are void; load the "
            "program again")


def classify(session, images, *, timeout):
    """Run any number of images int8 (N, C, H, W), in batches that the device has room for.

    ``timeout`` is in seconds an image. Returns acc and logits as :meth:`Session.run` does,
    counters summed over all, and the seconds that it took.
    """
    accs, scores, totals = [], [], {}
    started = time.monotonic()
    with track("run", len(images), "images") as task:
        for start in range(0, len(images), session.batch):
            part = images[start:start + session.batch]
            acc, logits, counters = session.run(
                part, timeout=timeout * len(part),
                progress=lambda n, start=start: task.reach(start + n))
            task.reach(start + len(part))
            accs.append(acc)
            scores.append(logits)
            for key, value in counters.items():
                totals[key] = totals.get(key, 0) + value
    return (np.concatenate(accs), np.concatenate(scores), totals,
            time.monotonic() - started)
