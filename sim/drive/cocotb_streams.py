"""Drive and observe ``amaranth.lib.stream`` ports of generated Verilog from cocotb."""
from cocotb.triggers import RisingEdge
from cocotb.types import LogicArray


class _Port:
    def __init__(self, dut, name, clk, *, rng, stall):
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._clk, self._rng, self._stall = clk, rng, stall

    async def _pause(self):
        while self._rng.random() < self._stall:
            await RisingEdge(self._clk)


class StreamSource(_Port):
    def __init__(self, dut, name, clk, **kwargs):
        super().__init__(dut, name, clk, **kwargs)
        self._valid.value = 0

    async def send(self, payloads):
        for payload in payloads:
            await self._pause()
            width = len(self._payload)          # payloads may be negative: two's complement
            self._payload.value = LogicArray.from_unsigned(payload & (1 << width) - 1, width)
            self._valid.value = 1
            while True:
                await RisingEdge(self._clk)
                if self._ready.value == 1:
                    break
            self._valid.value = 0


class StreamSink(_Port):
    def __init__(self, dut, name, clk, **kwargs):
        super().__init__(dut, name, clk, **kwargs)
        self._ready.value = 0

    async def receive(self, count):
        received = []
        while len(received) < count:
            await self._pause()
            self._ready.value = 1
            while True:
                await RisingEdge(self._clk)
                if self._valid.value == 1:
                    received.append(self._payload.value.to_unsigned())
                    break
            self._ready.value = 0
        return received
