"""FAULTS 13: ports that are away for a moment, shared, forbidden, or without a file number."""

import os
import pty
import socket
import threading
import time

import pytest
import serial
import serial.rfc2217

from gen.device import port as ports
from gen.device.port import LinkError
from gen.device.transport import Transport


@pytest.fixture
def terminal():
    master, slave = pty.openpty()
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_port_that_comes_back(terminal, tmp_path):
    master, name = terminal
    link = tmp_path / "ttyUSB0"
    timer = threading.Timer(0.5, link.symlink_to, [name])
    timer.start()
    transport = Transport(str(link), baud=115200)
    timer.join()
    os.write(master, b"x")
    assert transport.read(1.0) == b"x"
    transport.close()


def test_a_port_that_stays_away(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "WAIT_S", 0.3)
    started = time.monotonic()
    with pytest.raises(LinkError, match="^Cannot open .*No such file"):
        Transport(str(tmp_path / "none"))
    assert 0.3 <= time.monotonic() - started < 3


def test_two_programs(terminal):
    _, name = terminal
    transport = Transport(name, baud=115200)
    with pytest.raises(LinkError, match="close the other program that uses it$"):
        Transport(name, baud=115200)
    transport.close()


def test_forbidden(monkeypatch):
    def refuse(*arguments, **options):
        raise serial.SerialException(13, "could not open port: Permission denied")
    monkeypatch.setattr(ports, "WAIT_S", 0.0)
    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(LinkError, match="group dialout and log in again$"):
        Transport("/dev/ttyUSB0")


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")    # pyserial 3.5's own
def test_rfc2217_and_ports_without_a_file_number():
    """A server by pyserial's own PortManager around loop://."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        client, _ = listener.accept()
        device = serial.serial_for_url("loop://", timeout=0)

        class Writer:
            def write(self, data):
                client.sendall(data)

        manager = serial.rfc2217.PortManager(device, Writer())
        with client:
            while data := client.recv(1024):
                for value in manager.filter(data):
                    client.sendall(b"".join(manager.escape(value)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    transport = Transport(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}", baud=115200)
    transport.write(b"\x00\xffabc")
    found = b""
    deadline = time.monotonic() + 5
    while len(found) < 5 and time.monotonic() < deadline:
        found += transport.read(0.5)
    assert found == b"\x00\xffabc"
    transport.close()
    thread.join(5)
    listener.close()
