# amaranth: UnusedElaboratable=no
"""The chip model: each rule kept at its limit, then broken by one cycle, and named."""
from dataclasses import replace

from amaranth import ResetInserter, Signal
import pytest

from hw.sdram_config import SdramConfig
from sim.drive.ports import simulate
from sim.twin.sdram_chip import broken_rules, MOST_POSTPONED, SdramChip, SdramRule


# 10 ns a cycle. Every time is long enough to be what limits its own sequence.
CONFIG = SdramConfig(
    clock_hz=100_000_000, trcd_ns=30, trp_ns=30, tras_ns=50, trc_ns=120, trfc_ns=80, twr_ns=30,
    trrd_ns=40, tmrd_ns=30, refresh_ns=1000, power_up_ns=300, row_bits=3, column_bits=6)

MODE = 2 | CONFIG.cas_latency << 4

ALL = 1 << 10

CODES = {"activate": (1, 0, 0), "read": (0, 1, 0), "write": (0, 1, 1), "precharge": (1, 0, 1),
         "refresh": (1, 1, 0), "mode": (1, 1, 1), "stop": (0, 0, 1)}


def wait(cycles):
    """``cycles`` from the command before to the command behind."""
    return [{}] * (cycles - 1)


def do(name, *, bank=0, address=0, **pins):
    ras, cas, we = CODES[name]
    return [{"ras": ras, "cas": cas, "we": we, "bank": bank, "address": address, **pins}]


def activate(**pins):
    return do("activate", **pins)


def precharge(address=ALL, **pins):
    return do("precharge", address=address, **pins)


def write(*, driven=4, **pins):
    """A burst of four data: no wait is needed before the command after it."""
    data = [{"dq_oe": 1, "dq_o": 0x1000 + k} for k in range(driven)]
    return [{**do("write", **pins)[0], **data[0]}, *data[1:], *[{}] * (4 - driven)]


def start(*, power_up=0, refreshes=8, mode=MODE, tmrd=0):
    """Power up and initialisation, with one thing other than it should be."""
    return [
        *[{"cke": 1, "dqm": 3}] * (CONFIG.power_up + power_up),
        *precharge(dqm=3), *wait(CONFIG.trp),
        *(do("refresh") + wait(CONFIG.trfc)) * refreshes,
        *(do("mode", address=mode) + wait(CONFIG.tmrd + tmrd) if mode is not None else []),
    ]


READY = start()

BEHIND_POWER_UP = READY[CONFIG.power_up:]

OPEN = [*READY, *activate(), *wait(CONFIG.trcd)]

END = [{}] * 8


# rule: (steps that keep it, steps that break it). Each breaks no other rule.
CASES = {
    "power_up": (SdramRule.POWER_UP, lambda d: start(power_up=d)),
    "cke_low": (SdramRule.POWER_UP,
                lambda d: [{"cke": 1 + d, "dqm": 3}] * CONFIG.power_up + BEHIND_POWER_UP),
    "dqm_low": (SdramRule.POWER_UP, lambda d: [{"cke": 1, "dqm": 3 + d}] + READY),
    "init_refreshes": (SdramRule.INIT_ORDER, lambda d: start(refreshes=8 + d) + activate()),
    "init_mode": (SdramRule.INIT_ORDER, lambda d: start(mode=None if d else MODE) + activate()),
    "init_precharge": (SdramRule.INIT_ORDER, lambda d: (
        [{"dqm": 3}] * CONFIG.power_up
        + (do("refresh", dqm=3) + [{"dqm": 3}] * CONFIG.trfc if d else [])
        + BEHIND_POWER_UP)),
    "trcd": (SdramRule.TRCD, lambda d: (
        READY + activate() + wait(CONFIG.trcd + d) + do("read"))),
    "trcd_write": (SdramRule.TRCD, lambda d: (
        READY + activate() + wait(CONFIG.trcd + d) + write())),
    "trp": (SdramRule.TRP, lambda d: (
        OPEN + wait(20) + precharge() + wait(CONFIG.trp + d) + activate())),
    "trp_one_bank": (SdramRule.TRP, lambda d: (
        OPEN + wait(20) + precharge(address=0) + wait(CONFIG.trp + d) + activate())),
    "trp_refresh": (SdramRule.TRP, lambda d: (
        OPEN + wait(20) + precharge() + wait(CONFIG.trp + d) + do("refresh"))),
    "trp_mode": (SdramRule.TRP, lambda d: (
        OPEN + wait(20) + precharge() + wait(CONFIG.trp + d) + do("mode", address=MODE))),
    "tras": (SdramRule.TRAS, lambda d: (
        READY + activate() + wait(CONFIG.tras + d) + precharge())),
    "trc": (SdramRule.TRC, lambda d: (
        READY + activate() + wait(CONFIG.tras + 1) + precharge()
        + wait(CONFIG.trc - CONFIG.tras - 1 + d) + activate())),
    "trc_refresh": (SdramRule.TRC, lambda d: (
        READY + activate() + wait(CONFIG.tras + 1) + precharge()
        + wait(CONFIG.trc - CONFIG.tras - 1 + d) + do("refresh"))),
    "trfc": (SdramRule.TRFC, lambda d: (
        READY + do("refresh") + wait(CONFIG.trfc + d) + activate())),
    "trfc_refresh": (SdramRule.TRFC, lambda d: (
        READY + do("refresh") + wait(CONFIG.trfc + d) + do("refresh"))),
    "twr": (SdramRule.TWR, lambda d: (
        OPEN + write() + wait(CONFIG.twr + d) + precharge())),
    "trrd": (SdramRule.TRRD, lambda d: (
        READY + activate() + wait(CONFIG.trrd + d) + activate(bank=1))),
    "tmrd": (SdramRule.TMRD, lambda d: start(tmrd=d) + activate()),
    "refresh": (SdramRule.REFRESH, lambda d: (
        READY + wait((MOST_POSTPONED + 1) * CONFIG.refresh - CONFIG.tmrd - 5 - 10 * d)
        + do("refresh"))),
    "bank_open": (SdramRule.BANK_STATE, lambda d: (
        OPEN + wait(20) + (activate() if d else precharge()))),
    "bank_closed": (SdramRule.BANK_STATE, lambda d: OPEN + do("read", bank=-d)),
    "refresh_open": (SdramRule.BANK_STATE, lambda d: (
        OPEN + wait(20) + (wait(4) if d else precharge() + wait(CONFIG.trp)) + do("refresh"))),
    "mode_open": (SdramRule.BANK_STATE, lambda d: (
        OPEN + wait(20) + (wait(4) if d else precharge() + wait(CONFIG.trp))
        + do("mode", address=MODE))),
    "mode_latency": (SdramRule.MODE, lambda d: start(mode=MODE + (d << 4))),
    "mode_length": (SdramRule.MODE, lambda d: start(mode=MODE + d)),
    "contention": (SdramRule.CONTENTION, lambda d: (
        OPEN + do("read") + wait(CONFIG.cas_latency + 5 + d) + write())),
    "undriven": (SdramRule.UNDRIVEN, lambda d: OPEN + write(driven=4 + d)),
    "read_after_read": (SdramRule.CUT_SHORT, lambda d: (
        OPEN + do("read") + wait(4 + d) + do("read"))),
    "precharge_after_read": (SdramRule.CUT_SHORT, lambda d: (
        OPEN + wait(20) + do("read") + wait(4 + d) + precharge())),
    "masked_write": (SdramRule.MASKED, lambda d: OPEN + write(dqm=-d)),
    "masked_read": (SdramRule.MASKED, lambda d: (
        OPEN + do("read") + wait(CONFIG.cas_latency) + [{"dqm": -d}])),
    "unaligned": (SdramRule.UNALIGNED, lambda d: OPEN + do("read", address=8 + d)),
    "auto_precharge": (SdramRule.UNKNOWN, lambda d: OPEN + do("read", address=-d * ALL)),
    "burst_stop": (SdramRule.UNKNOWN, lambda d: OPEN + (do("stop") if d else [{}])),
}


def play(config, scripts):
    """Violations after each script of pin values, each on a chip that was just switched on."""
    chip = SdramChip(config)
    restart = Signal()
    found = []

    async def drive(ctx):
        defaults = {"cke": 1, "ras": 0, "cas": 0, "we": 0, "bank": 0, "address": 0, "dqm": 0,
                    "dq_oe": 0, "dq_o": 0}
        for script in scripts:
            ctx.set(restart, 1)
            await ctx.tick()
            ctx.set(restart, 0)
            for step in script + END:
                for name, value in {**defaults, **step}.items():
                    ctx.set(getattr(chip.pins, name), value)
                await ctx.tick()
            await ctx.tick()
            found.append(ctx.get(chip.violations))

    simulate(ResetInserter(restart)(chip), drive, cycles=60_000)
    return [broken_rules(value) for value in found]


@pytest.fixture(scope="module")
def played():
    scripts = [steps(delta) for _, steps in CASES.values() for delta in (0, -1)]
    results = iter(play(CONFIG, scripts))
    return {name: (next(results), next(results)) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_rule(name, played):
    kept, broken = played[name]
    assert kept == []
    assert broken == [CASES[name][0].name]


def test_longest_open_time():
    config = replace(CONFIG, refresh_ns=2_000_000)
    limit = config.cycles(100_000)
    kept, broken = play(config, [OPEN + wait(limit - CONFIG.trcd - 3) + precharge(),
                                 OPEN + wait(limit - CONFIG.trcd + 3) + precharge()])
    assert (kept, broken) == ([], ["TRAS_MAX"])


def test_every_rule_has_a_case():
    assert {rule for rule, _ in CASES.values()} | {SdramRule.TRAS_MAX} == set(SdramRule)


def test_data_and_latency():
    """The first datum is there for the edge CAS latency after the command, bank and row apart."""
    for latency, clock in ((2, 100_000_000), (3, 133_000_000)):
        config = replace(CONFIG, clock_hz=clock)
        assert config.cas_latency == latency
        chip = SdramChip(config)
        seen = []

        async def drive(ctx, chip=chip, latency=latency, config=config, seen=seen):
            script = [
                *[{"dqm": 3}] * config.power_up, *precharge(dqm=3), *wait(config.trp),
                *(do("refresh") + wait(config.trfc)) * 8,
                *do("mode", address=2 | latency << 4), *wait(config.tmrd),
                *activate(bank=2, address=5), *wait(config.trcd + 2),
                *write(bank=2, address=12), *do("read", bank=2, address=12)]
            for step in script:
                for name in ("ras", "cas", "we", "bank", "address", "dqm", "dq_oe", "dq_o"):
                    ctx.set(getattr(chip.pins, name), step.get(name, 0))
                ctx.set(chip.pins.cke, 1)
                await ctx.tick()
            ctx.set(chip.pins.cas, 0)
            for _ in range(latency + 5):
                *_, word = await ctx.tick().sample(chip.pins.dq_i)
                seen.append(word)
            assert broken_rules(ctx.get(chip.violations)) == []

        simulate(chip, drive)
        assert seen == [*[0] * (latency - 1), *range(0x1000, 0x1004), 0, 0]
