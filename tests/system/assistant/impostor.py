"""Somebody who would be taken for an enclave: an account of its own that answers requests for evidence with what it can get."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from messaging.client import Device, Received
from messaging.wire.answers import AnswerPart, FrameReader, FrameWriter
from messaging.wire.assistant import AssistantRequest, Evidence, EvidenceRequest, Result
from messaging.wire.content import AnswerFrame, AssistantCall
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import REQUEST_ID, SALT

Document = Callable[[bytes], Awaitable[bytes]]  # from a nonce to what is shown as evidence for it


class Impostor:
    """Receives for ``device``. ``got`` is all that others sent it, ``document`` what it shows as evidence."""

    def __init__(self, device: Device, document: Document) -> None:
        self.got: list[Received] = []
        self._device = device
        self._document = document
        self._waiting: dict[bytes, tuple[FrameReader, asyncio.Future[bytes]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def service_id(self) -> ServiceId:
        return self._device.service_id

    async def run(self) -> None:
        """Answer for ever."""
        async for received in self._device.received():
            match received.content:
                case AssistantCall(request):
                    self.got.append(received)
                    task = asyncio.create_task(self._answer(received.sender.service_id, request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case AnswerFrame() as frame:
                    self._join(frame)
                case _:
                    self.got.append(received)
            await self._device.done(received)

    async def ask(self, enclave: ServiceId, nonce: bytes) -> bytes:
        """The evidence of a true enclave, which anybody may ask for."""
        request = AssistantRequest(secrets.token_bytes(REQUEST_ID), EvidenceRequest(nonce))
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = FrameReader(), done
        await self._device.send(enclave, AssistantCall(request.encode()))
        return await done

    def _join(self, frame: AnswerFrame) -> None:
        reader, done = self._waiting[frame.request_id]
        for part in reader.read(frame):
            kind = Result.parse(part.result or b"").kind
            assert isinstance(kind, Evidence)
            done.set_result(kind.document)

    async def _answer(self, requester: ServiceId, request: bytes) -> None:
        parsed = AssistantRequest.parse(request)
        if isinstance(parsed.kind, EvidenceRequest):
            shown = Evidence(await self._document(parsed.kind.nonce))
            frames = FrameWriter(parsed.id)
            frames.write(AnswerPart(result=Result(kind=shown, salt=bytes(SALT)).encode()))
            for frame in frames.finish():
                await self._device.send(requester, frame)
