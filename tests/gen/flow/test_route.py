import pytest

from boards import find_board
from gen.flow.bitstream import pack
from gen.flow.route import route
from gen.flow.synth import synthesize
from model.error import DoesNotFit, TimingMissed, ToolFailed
from tests.gen.fake_tool import fake_tool
from tests.gen.flow.fake_flow import CELLS, runs


BOARD = find_board("ulx3s-12f")


def test_steps_and_reuse(fake, folder):
    tools = fake({1: (90, 0), 2: (95, 0), 3: (85, 0)})
    seen = []

    def build(seeds, tools=tools):
        synth = synthesize(BOARD, folder, tools, on_progress=seen.append)
        routed = route(BOARD, folder, tools, seeds=seeds, on_progress=seen.append)
        return synth, routed, pack(BOARD, folder, tools, routed)

    synth, routed, packed = build([1, 2])
    assert synth.data["cells"] == CELLS
    assert synth.seconds > 0 and synth.data["peak_mb"] > 0
    assert routed.seed == 2
    assert routed.fmax_mhz(80_000_000) == 95
    assert routed.margin == pytest.approx(95 / 80)
    assert routed.used == {"comb": 130, "ff": 0, "ebr": 3, "dsp": 0}
    assert routed.clocks["clk"] == {"achieved": 95, "constraint": 80}
    assert [entry["seed"] for entry in routed.seeds] == [1, 2]
    assert packed.outputs["top.bit"].read_bytes()[-4:] == bytes.fromhex("21111043")
    assert runs(folder) == ["yosys", "seed 1", "seed 2", "ecppack"]

    synth, routed, packed = build([1, 2, 3])
    assert synth.reused and packed.reused and not routed.reused
    assert runs(folder)[4:] == ["seed 3"]

    synth, routed, packed = build([1, 2])
    assert synth.reused and routed.reused and packed.reused

    # A new tool version or a new input runs what depends on it.
    synth, routed, packed = build([1], fake(version="2"))
    assert not (synth.reused or routed.reused or packed.reused)
    (folder / "top.lpf").write_text("FREQUENCY")
    synth, routed, packed = build([1], fake(version="2"))
    assert synth.reused and not routed.reused and packed.reused
    with pytest.raises(ToolFailed, match="No clock .* is constrained to 60 MHz"):
        routed.fmax_mhz(60_000_000)


def test_parallel_seeds(fake, folder):
    routed = route(BOARD, folder, fake({1: (81, 0), 2: (99, 0), 3: (90, 0)}),
                             seeds=range(1, 4), jobs=3)
    assert routed.seed == 2
    assert sorted(runs(folder)) == ["seed 1", "seed 2", "seed 3"]


def test_timing_missed(fake, folder):
    tools = fake({1: (70, 1), 2: (79.5, 1), 3: (80.5, 0)})
    with pytest.raises(TimingMissed, match=r"clock clk reaches 79.5 of 80 MHz \(best of 2 seeds, "
                                           r"seed 2\).*route-2.log") as raised:
        route(BOARD, folder, tools, seeds=[1, 2])
    assert raised.value.exit_code == 2
    assert raised.value.log.exists()
    # One more seed meets timing; the others are not run again.
    assert route(BOARD, folder, tools, seeds=[1, 2, 3]).seed == 3
    assert runs(folder) == ["seed 1", "seed 2", "seed 3"]


def test_paths_between_clocks(fake, folder):
    """A seed with a longer one than allowed is left for a slower one without; alone it fails."""
    tools = fake({1: (95, 0), 2: (85, 0)}, crossings={1: 7.5, 2: 2.5})
    with pytest.raises(TimingMissed, match=r"Between clocks: clk to sdram takes 7.5 of at most 6 "
                                           r"ns \(from one to other\), seed 1; try more seeds"):
        route(BOARD, folder, tools, seeds=[1])
    routed = route(BOARD, folder, tools, seeds=[1, 2])
    assert routed.seed == 2
    assert routed.crossings == [{"from": "clk", "to": "sdram", "ns": 2.5, "start": "one",
                                 "end": "other"}]
    assert [seed["crossings"][0]["ns"] for seed in routed.seeds] == [7.5, 2.5]


def test_failing_seed(fake, folder, caplog):
    tools = fake({1: (0, 3), 2: (90, 0)})
    assert route(BOARD, folder, tools, seeds=[1, 2]).seed == 2
    assert "seed 1 failed" in caplog.text
    with pytest.raises(ToolFailed, match=r"nextpnr-ecp5 \(seed 1\) ended with exit code 3"):
        route(BOARD, folder, tools, seeds=[1])
    assert (folder / "route-1.failed.log").exists()


def test_nextpnr_says_it_does_not_fit(fake, folder):
    tools = fake()
    script = "echo 'Info:   TRELLIS_COMB:  30000/24288   123%'; exit 255"
    fake_tool(folder.parent / "bin", "nextpnr-ecp5", script)
    with pytest.raises(DoesNotFit, match="TRELLIS_COMB of ulx3s-12f: 30000 needed, 24288"):
        route(BOARD, folder, tools)
