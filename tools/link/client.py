"""The host's end of the wire: asks, repeats what got lost, and says clearly what went wrong.

Protocol: docs/protocol.md.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from common.errors import CheckFailedError, ConfigError, LinkError
from tools.link import messages
from tools.link.description import Description, TensorSpec
from tools.link.frames import DELIMITER, PROTOCOL_VERSION, Frame, FrameDecoder, encode
from tools.link.messages import (
    ERROR_TYPE,
    REPLY_BIT,
    ErrorCode,
    ErrorReply,
    FaultRecord,
    MemoryReport,
    MessageError,
    MessageType,
    RunFlags,
)
from tools.link.port import Port, PortLostError

_Parsed = TypeVar("_Parsed")

# Seconds between looks at the clock while nothing arrives.
_POLL = 0.05

# A RUN that meets these on a board that has all its inputs: the board started anew in between.
_LOST_STATE = (ErrorCode.INPUT_INCOMPLETE, ErrorCode.BAD_RANGE, ErrorCode.NO_RESULT)


class DeviceError(LinkError):
    """The firmware answered with an error reply."""

    def __init__(self, message: str, reply: ErrorReply) -> None:
        super().__init__(message)
        self.reply = reply

    @property
    def code(self) -> int:
        """The error's code, see `ErrorCode`."""
        return self.reply.code


@dataclass(frozen=True)
class RunResult:
    """One inference.

    outputs: one array per output, shape and dtype as described; cycles: what the image's counter counted;
    stack_used: bytes, the most since power-up; layer_cycles: of each layer, where asked for, or of the first
    ones, where the image has no RAM to record more.
    """

    outputs: list[npt.NDArray[Any]]
    cycles: int
    stack_used: int
    layer_cycles: tuple[int, ...] | None = None


class Link:
    """An open link to a harness; a context manager.

    retries counts requests that were sent again; damaged counts frames dropped here.
    """

    def __init__(
        self,
        url: str,
        *,
        baud: int = 115_200,
        timeout: float = 1.0,
        attempts: int = 5,
        run_timeout: float = 120.0,
        symbol: Callable[[int], str | None] | None = None,
        diagnose: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Open `url`, any pyserial URL.

        Args:
            url: device path, pty or `socket://host:port`.
            baud: baud rate; without meaning for ptys and sockets.
            timeout: seconds to wait for a reply before the request is sent again.
            attempts: how often a request is sent before the board counts as silent.
            run_timeout: seconds that one inference may take.
            symbol: names the function at an address, to say where a fault happened.
            diagnose: what else is known of a board that faults or falls silent.

        Raises:
            NoBoardError: no such port, or no right to open it.
            LinkError: the port is in use.
        """
        self.url = url
        self.retries = 0
        self._baud = baud
        self._timeout = timeout
        self._attempts = attempts
        self._run_timeout = run_timeout
        self._symbol = symbol
        self._diagnose = diagnose
        self._decoder = FrameDecoder()
        self._description: Description | None = None
        self._received = 0
        # A board that has served before keeps its last RUN's number: begin at another.
        self._sequence = random.randrange(0x10000)
        self._port = Port(url, baud, poll=min(timeout, _POLL))
        self._port.write(DELIMITER)

    @property
    def damaged(self) -> int:
        """Damaged frames that arrived here."""
        return self._decoder.damaged

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hello(self) -> Description:
        """What the image says of itself; asked once per link.

        Raises:
            LinkError: silence, another protocol, or a damaged description.
        """
        if self._description is None:
            text = bytearray()
            total = 1
            while len(text) < total:
                payload = self._ask(
                    MessageType.HELLO, messages.hello_request(len(text)), "greeting the board"
                )
                piece = self._parse(messages.hello_reply, payload)
                if piece.offset != len(text):
                    raise LinkError(f"{self.url}: HELLO answered from byte {piece.offset}, not {len(text)}")
                text += piece.data
                total = piece.total
            description = Description.parse(text.decode(errors="replace"))
            if description.protocol != PROTOCOL_VERSION:
                raise self._other_protocol(description.protocol)
            self._description = description
        return self._description

    def expect_model(self, sha256: str) -> None:
        """Check that the image holds the model with this hash.

        Raises:
            CheckFailedError: it holds another one; names both hashes.
        """
        found = self.hello().model_sha256
        if found != sha256:
            raise CheckFailedError(
                f"{self.url}: the image holds the model {found}, not {sha256}: "
                f"build and flash it again (tinyboost build, tinyboost flash)"
            )

    def run(self, inputs: Sequence[npt.NDArray[Any]], *, profile: bool = False) -> RunResult:
        """One inference.

        Args:
            inputs: one array per input of the image: its dtype, its shape with or without a batch of 1.
            profile: also fetch the count of each layer.

        Raises:
            ConfigError: the inputs do not fit the image.
            DeviceError: the firmware refused or faulted.
            LinkError: silence, or the port went away; the message says where it stopped.
        """
        specs = self.hello().inputs
        if len(inputs) != len(specs):
            raise ConfigError(f"the image takes {len(specs)} inputs, not {len(inputs)}")
        for index, (array, spec) in enumerate(zip(inputs, specs, strict=True)):
            _check_input(index, array, spec)
        try:
            for index, array in enumerate(inputs):
                self._write(index, array.tobytes())
            return self._infer(RunFlags.PROFILE if profile else RunFlags.NONE)
        except DeviceError as error:
            if error.code in _LOST_STATE:
                fault = self.fault()
                why = f": {self._locate(fault)}" if fault else ""
                raise LinkError(f"{self.url}: the board started anew in the middle of a run{why}") from error
            raise

    def run_again(self, *, profile: bool = False) -> RunResult:
        """One inference on whatever the input buffers hold: for timing only.

        Raises:
            DeviceError: the firmware refused or faulted.
            LinkError: silence, or the port went away.
        """
        flags = RunFlags.TIMING_ONLY | (RunFlags.PROFILE if profile else RunFlags.NONE)
        return self._infer(flags)

    def memory(self) -> MemoryReport:
        """What the image knows of its memory.

        Raises:
            LinkError: silence, or the port went away.
        """
        return self._parse(MemoryReport.parse, self._ask(MessageType.MEMORY, b"", "asking for memory use"))

    def fault(self) -> FaultRecord | None:
        """The last fault since power-up, if there was one.

        Raises:
            LinkError: silence, or the port went away.
        """
        payload = self._ask(MessageType.FAULT, b"", "asking for the last fault")
        return self._parse(FaultRecord.parse, payload) if payload else None

    def reset(self) -> None:
        """Reset the chip and wait until it answers again.

        Raises:
            LinkError: it does not come back.
        """
        self._ask(MessageType.RESET, b"", "resetting the board")
        self._decoder.reset()
        self._description = None
        self.hello()

    def echo(self, data: bytes) -> bytes:
        """Send at most 240 bytes there and back.

        Raises:
            LinkError: silence, or the port went away.
        """
        return self._ask(MessageType.ECHO, data, "waiting for an echo")

    def request(self, kind: int, payload: bytes = b"") -> bytes:
        """Send any request and return its reply's payload: for tests of the protocol itself.

        Raises:
            DeviceError: the firmware answered with an error.
            LinkError: silence, or the port went away.
        """
        return self._ask(kind, payload, f"sending a message of type 0x{kind:02x}")

    def exchange(self, frame: Frame) -> Frame | None:
        """Send a frame once, as it is, and return what answers its number: for tests of the protocol itself.

        Raises:
            LinkError: the port went away.
        """
        self._port.write(encode(frame))
        return self._await(frame.type, frame.sequence, time.monotonic() + self._timeout)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are and a delimiter after them: for tests of the protocol itself.

        Raises:
            LinkError: the port went away.
        """
        self._port.write(data + DELIMITER)

    def _write(self, tensor: int, data: bytes) -> None:
        for offset in range(0, len(data), messages.MAX_WRITE):
            payload = messages.write_request(tensor, offset, data[offset : offset + messages.MAX_WRITE])
            self._ask(
                MessageType.WRITE, payload, f"writing input {tensor} (byte {offset:,} of {len(data):,})"
            )

    def _infer(self, flags: RunFlags) -> RunResult:
        payload = self._ask(
            MessageType.RUN, messages.run_request(flags), "running the model", limit=self._run_timeout
        )
        cycles, stack_used = self._parse(messages.run_reply, payload)
        outputs = [self._read(index, spec) for index, spec in enumerate(self.hello().outputs)]
        layers = self._profile() if flags & RunFlags.PROFILE else None
        return RunResult(outputs, cycles, stack_used, layers)

    def _read(self, tensor: int, spec: TensorSpec) -> npt.NDArray[Any]:
        data = bytearray()
        while len(data) < spec.nbytes:
            count = min(messages.MAX_READ, spec.nbytes - len(data))
            what = f"reading output {tensor} (byte {len(data):,} of {spec.nbytes:,})"
            piece = self._ask(MessageType.READ, messages.read_request(tensor, len(data), count), what)
            if len(piece) != count:
                raise LinkError(f"{self.url}: {len(piece)} bytes instead of {count} while {what}")
            data += piece
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)

    def _profile(self) -> tuple[int, ...]:
        counts: list[int] = []
        total = 1
        while len(counts) < total:
            payload = self._ask(
                MessageType.PROFILE, messages.profile_request(len(counts)), "fetching the profile"
            )
            piece, values = self._parse(messages.profile_reply, payload)
            if piece.offset != len(counts):
                raise LinkError(f"{self.url}: PROFILE answered from layer {piece.offset}, not {len(counts)}")
            counts += values
            total = piece.total
        return tuple(counts)

    def _ask(self, kind: int, payload: bytes, what: str, limit: float | None = None) -> bytes:
        """Reply's payload; the request is repeated with its number until `limit` seconds have passed."""
        sequence = self._sequence = (self._sequence + 1) & 0xFFFF
        request = encode(Frame(kind, sequence, payload))
        wait = self._timeout
        end = time.monotonic() + (limit or self._attempts * self._timeout)
        try:
            self._port.write(request)
            while True:
                reply = self._await(kind, sequence, min(time.monotonic() + wait, end))
                if reply is not None:
                    break
                if time.monotonic() >= end:
                    raise self._silence(what)
                if limit:
                    # The board may only be busy: ask it less and less often.
                    wait *= 2
                self.retries += 1
                self._port.write(DELIMITER + request)
        except PortLostError as error:
            raise PortLostError(f"{error} while {what}: plug it in and repeat the command") from error
        if reply.version != PROTOCOL_VERSION:
            raise self._other_protocol(reply.version)
        if reply.type == ERROR_TYPE:
            raise self._device_error(self._parse(ErrorReply.parse, reply.payload), what)
        return reply.payload

    def _await(self, kind: int, sequence: int, deadline: float) -> Frame | None:
        while True:
            data = self._port.read()
            self._received += len(data)
            for frame in self._decoder.feed(data):
                if frame.sequence == sequence and frame.type in (kind | REPLY_BIT, ERROR_TYPE):
                    return frame
            if time.monotonic() >= deadline:
                return None

    def _parse(self, parser: Callable[[bytes], _Parsed], payload: bytes) -> _Parsed:
        try:
            return parser(payload)
        except MessageError as error:
            raise LinkError(f"{self.url}: {error}: firmware and tinyboost do not belong together") from error

    def _locate(self, fault: FaultRecord) -> str:
        name = self._symbol(fault.pc) if self._symbol else None
        return f"{fault} in {name}" if name else str(fault)

    def _device_error(self, reply: ErrorReply, what: str) -> DeviceError:
        if reply.fault is not None:
            return DeviceError(
                f"{self.url}: the firmware faulted while {what}: {self._locate(reply.fault)}{self._more()}",
                reply,
            )
        return DeviceError(f"{self.url}: the firmware refused while {what}: {reply}", reply)

    def _more(self) -> str:
        text = self._diagnose()
        return f"; {text}" if text else ""

    def _other_protocol(self, version: int) -> LinkError:
        return LinkError(
            f"{self.url}: the board speaks protocol {version}, this tinyboost {PROTOCOL_VERSION}: "
            f"build and flash the image again"
        )

    def _silence(self, what: str) -> LinkError:
        if self._description is not None:
            return LinkError(f"{self.url}: the board fell silent while {what}{self._more()}")
        if self._received:
            return LinkError(
                f"{self.url}: {self._received} bytes came while {what}, but no valid frame: "
                f"another firmware, or not {self._baud} baud"
            )
        return LinkError(
            f"{self.url}: silence while {what}: "
            f"is the image flashed (tinyboost flash) and the board not halted?{self._more()}"
        )


def _check_input(index: int, array: npt.NDArray[Any], spec: TensorSpec) -> None:
    without_batch = spec.shape[1:] if spec.shape[0] == 1 else spec.shape
    if array.dtype != spec.dtype or array.shape not in (spec.shape, without_batch):
        raise ConfigError(
            f"input {index} of the image is {spec.dtype}{list(spec.shape)}, "
            f"not {array.dtype}{list(array.shape)}"
        )
