"""Marks of layers in a program, which a core shows at its phase pin."""

from dataclasses import replace

from hw.descriptor import DESCRIPTOR_WORDS, Header, pack


__all__ = ["with_marks"]


def with_marks(image):
    """The :class:`gen.compile.package.ProgramImage` with the first descriptor of each layer marked.

    Nothing else changes: neither results nor cycles. The core's ``phase`` is 0 from the start of
    an image on and changes as each of these descriptors starts (:class:`hw.core.Core`): so it is
    high while the layers of odd number are the last that began, counted from 1. Layers of a fused
    group overlap; what is told is when each one begins. In an image of L layers ``phase`` changes
    L times, and once more at the start of the next image if L is odd. In a sample of several images
    the layers of the first one are marked.
    """
    payload = image.payload.copy()
    payload.flags.writeable = True
    first = {}
    for index, layer in enumerate(image.layers):
        first.setdefault(layer, index)
    for index in first.values():
        payload[image.program + DESCRIPTOR_WORDS * index] |= pack(Header, mark=1)
    return replace(image, payload=payload)
