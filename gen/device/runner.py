"""A program on a device that may be lost and found again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging
import threading
import time
from typing import Any

from gen.compile.package import ProgramImage
from gen.device.check import Checks
from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.session import classify, Session


__all__ = ["Runner"]


log = logging.getLogger(__name__)

_AGAIN_S = 0.5
"""From one attempt to connect to the next."""


class Runner:
    """A :class:`gen.device.session.Session` that goes on after the device was lost.

    After an error of any kind the next run first makes sure of the device: it is opened again, a
    run that is left over is ended, and program, weights and constants are compared by CRC-32 and
    written where they differ. Where the device does not answer on the old port, that is opened
    anew, and configuration and identity are compared, too. So a device that restarted, or that
    another one has taken the place of, never returns a result of before.

    One lock guards the device: methods may be called from any thread, and wait for each other.

    Parameters
    ----------
    connect : callable
        Returns an open :class:`gen.device.device.Device`; called again after it was lost.
    image : gen.compile.package.ProgramImage
    patience : float
        Seconds for which a lost device is looked for.

    Raises
    ------
    gen.device.port.LinkError
        The device does not answer.
    model.error.WeightsMismatch
        It was built for something else.
    """

    def __init__(self, connect: Callable[[], Device], image: ProgramImage, *,
                 patience: float = 0.0):
        self._connect, self._image, self._patience = connect, image, patience
        self._lock = threading.RLock()
        self._device: Device | None = None
        self._session: Session | None = None
        self._doubtful = False
        self.reconnected = 0
        """Times that the port was opened anew."""
        self._open()

    def _open(self) -> Session:
        self.close()
        device = self._connect()
        try:
            self._session = Session(device, self._image)
        except BaseException:
            device.close()
            raise
        self._device = device
        return self._session

    @property
    def session(self) -> Session:
        """The present one; it changes when the port is opened anew."""
        if self._session is None:
            raise LinkError("The device was lost; connect it again")
        return self._session

    def load(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Write program, weights and constants."""
        with self._held():
            self.session.load(progress)

    def check(self, progress: Callable[[int], object] | None = None) -> None:
        """Compare them with the device's memory, by CRC-32."""
        with self._held():
            self.session.check(progress)

    def run(self, images: Any, *, timeout: float, checks: Checks | None = None) -> tuple:
        """As :func:`gen.device.session.classify`, after :meth:`recover` where that is needed."""
        with self._held():
            if self._doubtful or self._device is None:
                self.recover()
            return classify(self.session, images, timeout=timeout, checks=checks)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The device for one thread; in doubt after an error, or an interruption."""
        with self._lock:
            try:
                yield
            except BaseException:
                self._doubtful = True
                raise

    def recover(self) -> None:
        """Make the device as it was after loading; open its port anew if nothing else helps."""
        with self._lock:
            if self._device is not None:
                try:
                    self.session.recover()
                except LinkError as error:
                    log.debug("%s", error)
                else:
                    self._doubtful = False
                    return
            self.reconnect()

    def reconnect(self) -> None:
        """Open the port anew, compare configuration and identity, and :meth:`check` or
        :meth:`load`."""
        with self._lock:
            deadline = time.monotonic() + self._patience
            self._doubtful = True
            while True:
                try:
                    self._open().recover()
                    break
                except LinkError:
                    self.close()
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_AGAIN_S)
            self.reconnected += 1
            self._doubtful = False

    def close(self) -> None:
        """Give the port free."""
        with self._lock:
            device, self._device, self._session = self._device, None, None
            if device is not None:
                device.close()
