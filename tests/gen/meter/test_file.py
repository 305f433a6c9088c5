"""Recordings of other instruments: their columns, units, times and faults."""

import numpy as np
import pytest

from gen.meter.account import account
from gen.meter.base import MeterError, Phase
from gen.meter.choice import parse_meter
from gen.meter.file import File
from gen.meter.trace import build
from model.error import InputError
from tests.gen.meter.waveform import FakeTime, Sampled, Wave


def read(path, words="", phases=()):
    meter = parse_meter(f"file:{path}{words}")
    meter._clock, meter._wall = FakeTime(500.0), lambda: 1_700_000_500.0
    with meter:
        meter.start()
        block = meter.read(0.0)
        return build(meter, [block], list(phases))


def write(tmp_path, text, name="m.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


EXPORTS = {
    "nRF Connect": ("Timestamp(ms),Current(uA),D0-D7\n0,200000,00000000\n0.01,210000,10000000\n"
                    "0.02,220000,10000000\n0.03,200000,00000000\n", ",volts=5", 1e-5, 1.0, 1),
    "fnirsi-usb-power-data-logger": (
        "\ntimestamp sample_in_packet voltage_V current_A dp_V dn_V temp_C_ema energy_Ws "
        "capacity_As\n0.000 0 5.00000 0.20000 0.6 0.6 25.1 0 0\n0.010 1 5.00000 0.21 0.6 0.6 25.1 "
        "0 0\n0.020 2 5.00000 0.22 0.6 0.6 25.1 0 0\n", ",time=timestamp:s", 0.01, 1.0, 0),
    "Europe": ("Zeit [s];U [V];I [mA]\n0,0;5,0;200,0\n0,5;5,0;210,0\n1,0;5,0;220\n",
               ",time=Zeit [s]", 0.5, 1.0, 0),
    "own": ("# board; some meter\ntime_s,voltage_V,current_A,power_W,marker,phase\n"
            "0,5,0.2,1.0,0,idle\n0.001,5,0.21,1.05,1,running\n0.002,5,0.22,1.1,0,\n", "", 1e-3,
            1.0, 1),
    "dates": ("Time,Voltage (V),Current (A)\n2023-11-14T22:13:20+00:00,5,0.2\n"
              "2023-11-14T22:13:21+00:00,5,0.21\n2023-11-14T22:13:22.0+00:00,5,0.22\n", "", 1.0,
              1.0, 0),
    "Joulescope": ("#time,current,voltage\n0.0,0.2,5.0\n0.1,0.21,5.0\n0.2,0.22,5.0\n",
                   ",time=time:s,current=current:A,voltage=voltage:V", 0.1, 1.0, 0),
    "power only": ("elapsed (s)\tpower (mW)\n0\t1000\n2\t1050\n4\t1100\n", "", 2.0, 1.0, 0),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_instruments(tmp_path, name):
    text, words, step, first, pulses = EXPORTS[name]
    trace = read(write(tmp_path, text), words)
    assert np.diff(trace.time_s) == pytest.approx(step)
    assert trace.watts[:3] == pytest.approx([first, first * 1.05, first * 1.1])
    assert len(trace.pulses) == pulses and trace.tag == "board"


def test_dates_are_the_hosts(tmp_path):
    """2023-11-14T22:13:20Z is 1.7e9, half a thousand seconds before now."""
    trace = read(write(tmp_path, EXPORTS["dates"][0]))
    assert trace.time_s[0] == pytest.approx(0.0, abs=1e-3)
    assert trace.clock.method == "dates in the file"


@pytest.fixture
def recording(tmp_path):
    """A run of 20 s that began at 100 s of the host, by an instrument that is 100 ppm slow."""
    wave = Wave.bursts(1.0, 2.0, 20.0, 20.0, 100.0, 1)
    trace = Sampled(ppm=100.0, rate=500).trace(wave, 85.0, 130.0)
    meter_s = (trace.time_s - trace.time_s[0]) / trace.clock.rate
    path = tmp_path / "scope.csv"
    path.write_text("t (s),P (W),busy\n" + "".join(
        f"{at:.6f},{watts:.5f},{level}\n" for at, watts, level in zip(
            meter_s, trace.watts, wave.level(trace.time_s), strict=True)))
    return path


RUN = [Phase("idle", 88.0, 98.0), Phase("running", 100.0, 120.0)]


def test_aligned_by_the_marker(recording):
    trace = read(recording, phases=RUN)
    assert trace.clock.method == f"the marker in {recording}"
    found = account(trace, 1000)
    assert found.image_j[0] == pytest.approx(0.040, rel=0.005)
    assert found.above_idle_j[0] == pytest.approx(0.020, rel=0.01)
    assert found.phases["idle"].watts == pytest.approx(1.0, rel=0.001)


def test_aligned_by_a_given_time(recording):
    lines = recording.read_text().splitlines()
    recording.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(MeterError, match=r"nothing tells when the run began: .* name the column "
                                         r"\(marker=COLUMN\), or the time \(start=SECONDS\)"):
        read(recording, phases=RUN)
    found = account(read(recording, ",start=14.9985", phases=RUN), 1000)
    assert found.image_j[0] == pytest.approx(0.040, rel=0.005)
    assert found.window == "times of the host"


def test_another_run(recording):
    with pytest.raises(InputError, match=r"the marker in .*scope\.csv spans 20 s, but the run "
                                         "took 30 s: this is another recording"):
        read(recording, phases=[Phase("running", 100.0, 130.0)])


GOOD = "time_s,voltage_V,current_mA\n0,5,200\n1,5,210\n2,5,220\n"

BAD = [
    ("", "", "is empty"),
    ("\n\n", "", "is empty"),
    ("0,5,200\n1,5,210\n2,5,3\n", "",
     "the first line has no names of columns but 0, 5, 200; write"),
    ("time_s,voltage_V,current_mA\n0,5,1\n", "", "has 1 samples; at least two are needed"),
    (GOOD.replace("current_mA", "torque_Nm"), "",
     "no column of current or power found among time_s, voltage_V, torque_Nm; name it: "
     "current=COLUMN:UNIT"),
    (GOOD.replace("time_s", "n"), "", "no column of time found among n, voltage_V, current_mA; "
                                      "name it: time=COLUMN:UNIT"),
    (GOOD.replace("voltage_V", "x"), "", "there is current, but no voltage; add the supply's, as "
                                         "in --meter file:"),
    (GOOD.replace("current_mA", "current"), "",
     "column 'current' names no unit; say it: current=current:UNIT with a or ma or ua"),
    (GOOD.replace("current_mA", "Current (kA)"), "", "column 'Current (kA)' has the unknown unit "
                                                     "'ka'"),
    (GOOD.replace("time_s", "time"), "", "column 'time' names no unit; say it: time=time:UNIT"),
    (GOOD.replace("1,5,210", "1,5,"), "", "line 3: current_mA is '', not a number"),
    (GOOD.replace("1,5,210", "1,5"), "", "line 3: current_mA is '', not a number"),
    (GOOD.replace("1,5,210", "1,5,nan"), "", "line 3: current_mA is 'nan', not a number"),
    (GOOD.replace("1,5,210", "1,5,OL"), "", "line 3: current_mA is 'OL', not a number"),
    (GOOD.replace("2,5,220", "1,5,220"), "", "line 4: time does not increase (1, then 1)"),
    (GOOD.replace("2,5,220", "0.5,5,220"), "", "line 4: time does not increase (1, then 0.5)"),
    (GOOD.replace("voltage_V,", "power_W,power_mW,").replace(",5,", ",5,5,"), "",
     "columns power_W and power_mW may both be the power; choose with power=COLUMN"),
    (GOOD, ",current=I2", "has no column 'I2'; it has time_s, voltage_V, current_mA"),
    (GOOD, ",marker=D7", "has no column 'D7'; it has time_s"),
    (GOOD, ",current=current_mA:furlong", "has the unknown unit 'furlong'"),
]


@pytest.mark.parametrize("text, words, message", BAD)
def test_bad_files(tmp_path, text, words, message):
    """One line that names file and place, and what to do."""
    path = write(tmp_path, text)
    with pytest.raises(MeterError) as caught:
        read(path, words)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_text(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(MeterError, match=r"is no text in UTF-8 \(byte 4\); export it as CSV"):
        read(path)
    with pytest.raises(MeterError, match="none.csv: no such file or directory; check the name"):
        read(tmp_path / "none.csv")
    with pytest.raises(MeterError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(MeterError, match="name the file: --meter file:PATH"):
        parse_meter("file")


def test_paths_with_commas_and_colons(tmp_path):
    path = write(tmp_path, GOOD, "a,b:c=1.csv")
    assert len(read(path, ",volts=5").time_s) == 3


def test_error_of_the_instrument(tmp_path):
    meter = parse_meter(f"file:{write(tmp_path, GOOD)},error=0.5")
    assert isinstance(meter, File)
    assert meter.accuracy.gain == 0.005
    assert "gain errors are left out" in parse_meter("file:x").accuracy.source
