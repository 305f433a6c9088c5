"""A program on a device: images in, classes and counters out."""

from contextlib import contextmanager
import logging
from pathlib import Path
import time

import numpy as np

from gen.compile.package import image_words, logits_of
from gen.device.check import CheckFailed, Checks
from gen.device.device import crc_of, CRC_WORDS, SATURATED
from gen.device.port import LinkError
from hw.config import RECORD_WORDS
from hw.register import config_digest, identity_text, Restart
from model.error import WeightsMismatch
from model.progress import track


__all__ = ["Session", "classify"]


logger = logging.getLogger(__name__)

_PART_WORDS = 256
"""Words that are read, or written again, where a CRC tells that one of them differs."""

WATCHDOG_FACTOR = 4
"""Times the predicted cycles of an image after which the device gives up."""


class Session:
    """A program on a device: images in, classes and counters out.

    Parameters
    ----------
    device : gen.device.device.Device
    image : gen.compile.package.ProgramImage

    Raises
    ------
    WeightsMismatch
        If the device was built for another configuration, or has another bitstream than the one
        that the program was built with.
    """

    def __init__(self, device, image):
        info = device.info()
        self.bitstream = _compare(info, image)
        """What is known of the device's bitstream, in a line."""
        self._device = device
        self._image = image
        # Images beside the program's own place where the memory has room: fewer, longer runs.
        free = info.memory_words - image.memory_words
        per_image = image.image_words + image.result_words
        self.batch = max(1, free // per_image)
        self._base = image.memory_words if free >= per_image else None
        self.image_address = image.image if self._base is None else self._base
        """Memory word of the first image of a run."""
        self.result_address = (image.result if self._base is None
                               else self._base + self.batch * image.image_words)
        """Memory word of its result."""
        self._doubtful = False                  # a run failed: memory may hold anything

    @property
    def device(self):
        """The :class:`gen.device.device.Device`."""
        return self._device

    @property
    def image(self):
        """The :class:`gen.compile.package.ProgramImage`."""
        return self._image

    def load(self, progress=None):
        """Write program, weights and constants; a run that is left over is ended first, and what it
        left in the core is cleared."""
        if self._device.is_busy():
            logger.warning("the device still runs what another program began: it is aborted")
        self._clear()
        self._device.write(0, self._image.payload, progress=progress)
        self._doubtful = False

    def check(self, progress=None):
        """Have the device compute the CRC of program, weights and constants, and compare.

        A link without an error says nothing of the memory behind it: one wrong bit of a weight
        gives other results, one of a descriptor may stop the core.

        Raises
        ------
        CheckFailed
            Naming the first word that is not what was written.
        """
        self.check_memory(0, self._image.payload, progress)

    def check_memory(self, address, wanted, progress=None):
        """:meth:`check` for the words uint64 ``wanted`` from ``address`` on."""
        for start in range(0, len(wanted), CRC_WORDS):
            part = wanted[start:start + CRC_WORDS]
            if self._device.crc(address + start, len(part)) != crc_of(part):
                self._name_difference(address + start, part)
            if progress:
                progress(start + len(part))

    def _parts(self, address, wanted):
        """(address, words) of the parts of a region that have another CRC than ``wanted``."""
        for start in range(0, len(wanted), _PART_WORDS):
            part = wanted[start:start + _PART_WORDS]
            if self._device.crc(address + start, len(part)) != crc_of(part):
                yield address + start, part

    def _name_difference(self, address, wanted):
        found = wanted.copy()
        for start, part in self._parts(address, wanted):
            found[start - address:][:len(part)] = self._device.read(start, len(part))
        wrong = np.flatnonzero(found != wanted)
        if len(wrong) == 0:
            raise CheckFailed(
                f"The board's memory is unreliable: words {address} to {address + len(wanted) - 1} "
                "have another CRC than what was written, but read right; build with a lower "
                "sdram_mhz")
        word = int(wrong[0])
        raise CheckFailed(
            f"The board's memory does not hold what was written: {len(wrong)} of "
            f"{len(wanted)} words differ, the first at {address + word} ({int(found[word]):#018x}, "
            f"not {int(wanted[word]):#018x}); load again, with a slower memory clock if it "
            "stays (sdram_mhz)")

    def recover(self):
        """Make a device whose run failed as it was after loading; returns whether that needed
        writing. Another bitstream than before is refused.

        It keeps its memory unless it was calibrated again, so mostly nothing has to be written,
        and else only the parts that differ.
        """
        _compare(self._device.reopen(), self._image)
        self._clear()
        repaired, payload = False, self._image.payload
        for start in range(0, len(payload), CRC_WORDS):
            block = payload[start:start + CRC_WORDS]
            if self._device.crc(start, len(block)) != crc_of(block):
                repaired = True
                for address, part in self._parts(start, block):
                    self._device.write(address, part)
        if repaired:
            self.check()
        self._doubtful = False
        return repaired

    def _clear(self):
        """Restart a core that has run: with a damaged program even a run that came to its end may
        leave words in the streams, which the next one would take."""
        if self._device.has_run or self._device.is_busy():
            self._device.restart(Restart.ABORT)

    def run(self, images, *, timeout, progress=None, checks=None):
        """Run at most :attr:`batch` images int8 (N, C, H, W), or samples (N, T, C, H, W) of T
        images; one, if ``checks.each``.

        After a run that failed, :meth:`recover` comes first.

        Returns
        -------
        (acc, values, counters)
            Accumulators int64 and what they stand for, float64 (N, total), of all outputs one
            behind the other (:func:`gen.compile.results.named`); counters of the whole run.

        Raises
        ------
        CheckFailed
            By one of ``checks``, a :class:`gen.device.check.Checks`.
        LinkError
            The device restarted, was stopped after ``timeout`` seconds, or says that it did not
            run to the end.
        """
        checks = checks or Checks()
        most = 1 if checks.each else self.batch
        if not 1 <= len(images) <= most:
            raise ValueError(f"Images must be 1..{most}, not {len(images)}")
        with self.running():
            return self._checked(images, timeout, progress, checks)

    @contextmanager
    def running(self):
        """Around a run: after one that failed, :meth:`recover` comes first."""
        if self._doubtful:
            self.recover()
        try:
            yield
        except LinkError:
            self._doubtful = True
            raise

    def _checked(self, images, timeout, progress, checks):
        image, device = self._image, self._device
        first = self.image_address
        written = np.concatenate([image_words(image, values) for values in images])
        device.write(first, written)
        with checks.timed("crc"):
            self._check_inputs(first, written, checks)
        words, counters, signatures = self._once(len(images), timeout, progress, checks.each)
        if checks.twice:
            with checks.timed("twice"):
                again, _, others = self._once(len(images), timeout, None, True)
                checks.compare_twice(image, signatures, others)
                if not np.array_equal(words, again):
                    raise CheckFailed(
                        f"Image {checks.images}: two runs gave other results although every "
                        "instruction did the same: the memory is unreliable; build with a lower "
                        "sdram_mhz")
        outcome = [logits_of(image, part) for part in words.reshape(len(images), -1)]
        if checks.signatures is not None:
            with checks.timed("host"):
                checks.compare_host(image, images[0], signatures, outcome[0][0])
        with checks.timed("crc"):
            self._check_inputs(first, written, checks)
        checks.images += len(images)
        acc, values = (np.stack(part) for part in zip(*outcome, strict=True))
        return acc, values, counters

    def _check_inputs(self, first, written, checks):
        if checks.crc:
            self.check()
            self.check_memory(first, written)
            checks.words += len(self._image.payload) + len(written)

    def _once(self, count, timeout, progress, signatures):
        """One run of ``count`` images that are in place: words of the results, counters, and if
        asked for the signature of every descriptor, for the last image."""
        image, device = self._image, self._device
        first, result = self.image_address, self.result_address
        # What the run must write is erased first: a core that does nothing leaves zeros, never an
        # old result.
        records = image.descriptors if signatures else 1
        log = image.log + RECORD_WORDS * (image.descriptors - records)
        device.write(result, np.zeros(count * image.result_words, np.uint64))
        device.write(log, np.zeros(RECORD_WORDS * records, np.uint64))
        device.set_watchdog(WATCHDOG_FACTOR * image.predicted_cycles)
        before = device.counters()
        device.start(program=image.program, log=image.log, image=first,
                     image_stride=image.image_words, result=result,
                     result_stride=image.result_words, count=count)
        device.wait(timeout=timeout, progress=progress)
        words = device.read(result, count * image.result_words)
        counters = device.counters()
        found = device.read(log, RECORD_WORDS * records)
        _check_run(counters, found[-RECORD_WORDS:], count, image.descriptors)
        if counters["ERRORS"]:
            raise LinkError(f"The core reports memory collisions ({counters['ERRORS']:#x}): "
                            f"the results are void")
        counters |= {name: (counters[name] - before[name]) % size
                     for name, size in SATURATED.items()}
        return words, counters, (found[::RECORD_WORDS] & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _compare(info, image):
    """Raise :exc:`WeightsMismatch` unless the program is for a device that says ``info``; returns
    what is known of its bitstream, in a line."""
    wanted = config_digest(image.config)
    if info.config_digest != wanted:
        raise WeightsMismatch(
            f"The device has configuration {info.config_digest:#010x}, the program needs "
            f"{wanted:#010x}: load the bitstream of this build (--program)")
    said = _compare_identity(info.identity, image)
    if info.memory_words < image.memory_words:
        raise WeightsMismatch(f"The device has {info.memory_words} words of memory, the "
                              f"program needs {image.memory_words}")
    return said


def _compare_identity(found, image):
    """Whether the device has the bitstream that the program was built with, in a line."""
    if not found:
        return "bitstream: the device has none with an identity, it is a simulation of the RTL"
    if not image.identity:
        return (f"bitstream {identity_text(found)}: not compared, as the program was not built "
                "with a bitstream")
    if found == image.identity:
        return f"bitstream {identity_text(found)}: the one that {image.source} was built with"
    file = Path(image.source)
    raise WeightsMismatch(
        f"{file}: was built for bitstream {identity_text(image.identity)}, the board holds "
        f"{identity_text(found)}; load {file.with_name('top.bit')} (--program) or build again")


def _check_run(counters, record, count, descriptors):
    """Raise :exc:`LinkError` unless the device tells of a whole run, to its last descriptor.

    The counters of one that did not start are old, or 0, and the last completion record of the
    program is as the host has erased it.
    """
    end = int(record[1]) >> 32
    if (counters["IMAGES"] != count or counters["DESCRIPTORS"] != count * descriptors
            or not 0 < end <= counters["CYCLES"]):
        raise LinkError(
            f"The device did not run the program to its end: {counters['IMAGES']} of {count} "
            f"images, {counters['DESCRIPTORS']} of {count * descriptors} descriptors, last record "
            f"at cycle {end}. The results are void; load the program again")


def classify(session, images, *, timeout, checks=None):
    """Run any number of images int8 (N, C, H, W), or samples (N, T, C, H, W), in batches that the
    device has room for.

    ``timeout`` is in seconds an image, ``checks`` as for :meth:`Session.run`. Returns acc and
    values as :meth:`Session.run` does, counters summed over all, and the seconds that it took.
    """
    accs, reals, totals = [], [], {}
    batch = 1 if checks and checks.each else session.batch
    started = time.monotonic()
    with track("run", len(images), "images") as task:
        for start in range(0, len(images), batch):
            part = images[start:start + batch]
            acc, values, counters = session.run(
                part, timeout=timeout * len(part), checks=checks,
                progress=lambda n, start=start: task.reach(start + n))
            task.reach(start + len(part))
            accs.append(acc)
            reals.append(values)
            for key, value in counters.items():
                totals[key] = totals.get(key, 0) + value
    return (np.concatenate(accs), np.concatenate(reals), totals,
            time.monotonic() - started)
