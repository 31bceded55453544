import os
import select
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_device import MODEL_SHA256, FakeDevice, Noise, expected_output

from common.errors import CheckFailedError, ConfigError, LinkError, NoBoardError
from tools.link.client import DeviceError, Link
from tools.link.messages import ErrorCode


def sample(seed: int, size: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, size, dtype=np.int8)


def test_run_brings_outputs_counts_and_profile() -> None:
    with FakeDevice(output_bytes=500) as device, Link(device.url) as link:
        result = link.run([sample(1)], profile=True)
        assert result.outputs[0].tobytes() == expected_output(sample(1).tobytes(), 500)
        assert result.outputs[0].shape == (1, 500)
        assert (result.cycles, result.stack_used) == (123_456, 700)
        assert result.layer_cycles == tuple(range(100, 170))
        assert link.run([sample(2)[np.newaxis]]).layer_cycles is None
        assert link.run_again().outputs[0].shape == (1, 500)
        assert link.retries == 0


def test_hello_describes_the_image() -> None:
    with FakeDevice() as device, Link(device.url) as link:
        description = link.hello()
        assert description.entries["extra"] == "x" * 200
        assert description.inputs[0].shape == (1, 1000)
        link.expect_model(MODEL_SHA256)
        with pytest.raises(CheckFailedError, match=f"{MODEL_SHA256}.*{'cd' * 32}"):
            link.expect_model("cd" * 32)


def test_memory_fault_echo_and_reset() -> None:
    with FakeDevice() as device, Link(device.url) as link:
        assert link.memory().arena == 4096
        assert link.fault() is None
        assert link.echo(bytes(range(240))) == bytes(range(240))
        assert link.echo(b"") == b""
        link.reset()
        assert link.hello().board == "fake"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [0.0005, 0.003])
def test_noise_costs_repetitions_but_never_a_wrong_answer(rate: float, seed: int) -> None:
    with (
        FakeDevice(output_bytes=300, noise=Noise(rate, seed)) as device,
        Link(device.url, timeout=0.02, attempts=500) as link,
    ):
        for index in range(5):
            result = link.run([sample(index)])
            assert result.outputs[0].tobytes() == expected_output(sample(index).tobytes(), 300)
            assert result.cycles == 123_456
        assert link.retries > 0
        assert device.runs == 5


def test_lost_reply_of_a_run_does_not_run_again() -> None:
    """More than half of the exchanges lose a frame; the board still runs once for each run asked for."""
    with (
        FakeDevice(input_bytes=4, output_bytes=4, layers=1) as device,
        Link(device.url, timeout=0.02, attempts=500) as link,
    ):
        link.hello()
        device.noise = Noise(0.02, seed=5)
        for index in range(10):
            link.run([sample(index, 4)])
        assert link.retries > 10
        assert device.runs == 10


def test_bytes_of_a_former_user_do_no_harm() -> None:
    with FakeDevice() as device:
        handle = os.open(device.url, os.O_RDWR | os.O_NOCTTY)
        os.write(handle, b"half a frame")
        os.close(handle)
        with Link(device.url) as link:
            assert link.hello().board == "fake"
            assert link.retries == 0


def test_raw_damage_is_dropped_and_counted() -> None:
    with FakeDevice() as device, Link(device.url) as link:
        link.send_raw(b"\x05noise")
        assert link.echo(b"after") == b"after"
        assert link.memory().frames_dropped == 1


@pytest.mark.parametrize(
    ("kind", "payload", "code", "detail"),
    [
        (0x33, b"", ErrorCode.UNKNOWN_TYPE, 0x33),
        (0x03, b"", ErrorCode.BAD_LENGTH, 0),
        (0x02, b"\x05\0\0\0\0", ErrorCode.BAD_TENSOR, 5),
        (0x04, b"\0\0\0\0\0\1\0", ErrorCode.NO_RESULT, 0),
    ],
)
def test_errors_of_the_firmware_are_typed(kind: int, payload: bytes, code: ErrorCode, detail: int) -> None:
    with FakeDevice() as device, Link(device.url) as link:
        with pytest.raises(DeviceError, match=code.name) as caught:
            link.request(kind, payload)
        assert caught.value.code == code
        assert caught.value.reply.detail == detail


def test_fault_names_the_place() -> None:
    def symbol(address: int) -> str | None:
        return "conv2d" if address == 0x08001234 else None

    with FakeDevice(faults_in_run=True) as device, Link(device.url, symbol=symbol) as link:
        link.hello()
        with pytest.raises(DeviceError, match=r"running the model: HardFault.*PC 0x08001234.*in conv2d"):
            link.run([sample(0)])
        fault = link.fault()
        assert fault is not None
        assert fault.pc == 0x08001234


def test_restart_in_the_middle_of_a_run_is_told() -> None:
    with (
        FakeDevice(restarts_before_run=True) as device,
        Link(device.url) as link,
        pytest.raises(LinkError, match="started anew in the middle of a run"),
    ):
        link.run([sample(0)])


def test_unplugging_says_where_it_stopped() -> None:
    with FakeDevice(unplug_after=5) as device, Link(device.url) as link:
        link.hello()
        with pytest.raises(LinkError, match=r"went away while writing input 0 \(byte 470 of 1,000\)"):
            link.run([sample(0)])


def test_wrong_inputs_never_reach_the_wire() -> None:
    with FakeDevice() as device, Link(device.url) as link:
        link.hello()
        with pytest.raises(ConfigError, match="takes 1 inputs, not 2"):
            link.run([sample(0), sample(1)])
        with pytest.raises(ConfigError, match=r"int8\[1, 1000\], not uint8\[1000\]"):
            link.run([sample(0).view(np.uint8)])
        with pytest.raises(ConfigError, match=r"not int8\[7\]"):
            link.run([sample(0, 7)])
        assert device.runs == 0


def test_other_protocol_is_refused() -> None:
    with (
        FakeDevice(protocol=2) as device,
        Link(device.url) as link,
        pytest.raises(LinkError, match="speaks protocol 2, this tinyboost 1"),
    ):
        link.hello()


def test_silence_and_garbage_are_told_apart() -> None:
    with (
        FakeDevice(silent=True) as device,
        Link(device.url, timeout=0.05, attempts=2) as link,
        pytest.raises(LinkError, match="silence while greeting"),
    ):
        link.hello()
    with (
        FakeDevice(garbage=True) as device,
        Link(device.url, timeout=0.05, attempts=2) as link,
        pytest.raises(LinkError, match=r"18 bytes came .*another firmware, or not 115200 baud"),
    ):
        link.hello()


def test_falling_silent_later_is_told() -> None:
    with FakeDevice() as device, Link(device.url, timeout=0.05, attempts=2, run_timeout=0.1) as link:
        link.hello()
        device.silent = True
        with pytest.raises(LinkError, match="fell silent while writing input 0"):
            link.run([sample(0)])


def test_absent_busy_and_forbidden_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoBoardError, match="does not exist: is the board plugged in"):
        Link("/dev/no-such-port")
    with (
        FakeDevice() as device,
        Link(device.url),
        pytest.raises(LinkError, match="in use by another program"),
    ):
        Link(device.url)
    with pytest.raises(NoBoardError, match="cannot open nonsense://"):
        Link("nonsense://port")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NoBoardError, match="dialout"):
        Link(str(tmp_path / "ttyACM0"))


def test_socket_url() -> None:
    """A relay between a TCP socket and the fake's pty, as Renode's socket terminal is one."""
    with FakeDevice() as device, socket.create_server(("127.0.0.1", 0)) as server:
        pty = os.open(device.url, os.O_RDWR | os.O_NOCTTY)

        def relay() -> None:
            client, _ = server.accept()
            with client:
                while True:
                    ready, _, _ = select.select([client, pty], [], [])
                    if pty in ready:
                        client.sendall(os.read(pty, 4096))
                    if client in ready:
                        data = client.recv(4096)
                        if not data:
                            break
                        os.write(pty, data)
            os.close(pty)

        thread = threading.Thread(target=relay)
        thread.start()
        with Link(f"socket://127.0.0.1:{server.getsockname()[1]}") as link:
            result = link.run([sample(3)])
            assert result.outputs[0].tobytes() == expected_output(sample(3).tobytes(), 10)
            assert link.retries == 0
        thread.join()


def test_refused_socket_is_no_board() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NoBoardError, match=str(port)):
        Link(f"socket://127.0.0.1:{port}")
