"""A loaded engine driven step by step, without its thread."""

from dataclasses import dataclass, field
from typing import Any

from ai_enclave.engine.interface import Done, Event, Failed, Lines, Token
from ai_enclave.engine.local.batcher import Ask, Batcher
from ai_enclave.engine.local.engine import LocalEngine
from ai_enclave.engine.local.files import Files, Folder
from ai_enclave.engine.local.prompt import Prompts
from ai_enclave.engine.local.scheduler import Limits
from tests.ai_enclave.engine.local.checkpoints import Checkpoint

FAR = 1e9  # a deadline


@dataclass(slots=True)
class Driven:
    """The parts of an engine, and what each request heard."""

    batcher: Batcher
    prompts: Prompts
    heard: dict[int, list[Event]] = field(default_factory=dict)
    tokens: dict[int, list[int]] = field(default_factory=dict)  # prompt and answer, of those that are done
    asked: dict[int, Ask] = field(default_factory=dict)

    @classmethod
    def load(cls, checkpoint: Checkpoint | Files, **options: Any) -> "Driven":
        """On one core."""
        files = Folder(checkpoint.folder) if isinstance(checkpoint, Checkpoint) else checkpoint
        engine = LocalEngine.load(files, threads=1, **options)
        return cls(engine._batcher, engine._prompts)

    def ask(
        self,
        text: str,
        *,
        instructions: str = "Say it in a few words.",
        tenant: bytes = b"a",
        most: int = 24,
        deadline: float = FAR,
        form: Lines | None = None,
    ) -> int:
        """Submit a request; its number."""
        number = len(self.asked)
        prompt = self.prompts.build(instructions, text)
        ask = Ask(number=number, tenant=tenant, deadline=deadline, most=most, prompt=prompt, form=form)
        self.asked[number] = ask
        self.heard[number] = []
        self._note(self.batcher.submit(ask))
        return number

    def step(self) -> None:
        """One step."""
        answers = dict(self.batcher._answers)
        self._note(self.batcher.step())
        for number, answer in answers.items():
            if number not in self.batcher._answers:
                self.tokens[number] = answer.tokens

    def run(self, most_steps: int = 2000) -> None:
        """Until nothing is left to do."""
        for _ in range(most_steps):
            if not self.batcher.busy:
                return
            self.step()
        raise AssertionError("it does not end")

    def cancel(self, number: int) -> None:
        """Cancel a request."""
        self._note(self.batcher.cancel(number))

    def text(self, number: int) -> str:
        """What was streamed."""
        return "".join(event.text for event in self.heard[number] if isinstance(event, Token))

    def end(self, number: int) -> Done | Failed:
        """How it ended; nothing came after that."""
        *before, end = self.heard[number]
        assert isinstance(end, Done | Failed)
        assert not any(isinstance(event, Done | Failed) for event in before)
        return end

    def answer(self, number: int) -> list[int]:
        """The tokens of an answer that is done, without the stop."""
        return self.tokens[number][len(self.asked[number].prompt.tokens) :]

    def _note(self, events: list[tuple[int, Event]]) -> None:
        for number, event in events:
            self.heard[number].append(event)


def small_limits(**changes: int) -> Limits:
    """Limits that a few short requests reach."""
    return Limits(**{"running": 8, "budget": 16, **changes})
