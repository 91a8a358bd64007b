"""The bridge: images of peers into a live session, its answers out to all peers."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from service.errors import UnavailableError, WarplineError
from service.igtl.connection import DEFAULT_LIMITS, QUERIES, Connection, Limits
from service.igtl.contents import StatusCode
from service.igtl.frames import Canvas, Frame, frame_of
from service.igtl.image import Coordinates, unpack_image
from service.igtl.mailbox import Mailbox
from service.igtl.outputs import OURS, Outputs
from service.igtl.peers import LAST_WORD_S, Peers, status_message
from service.igtl.queries import Latest
from service.igtl.session import Answer, Opener, Session, Unanswered
from service.igtl.tally import Tally
from service.igtl.wire import Message

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
LAST_ANSWERS_S = 30.0  # so long may peers take to read them; whoever stops the bridge waits less
REMEMBERED = 16  # frames that an answer may still come to; they are large


class Bridge:
    """Connects peers with a session. `peers` is there at once; `run` does the work."""

    def __init__(
        self,
        opener: Opener,
        outputs: Outputs,
        tally: Tally,
        *,
        device: str | None = None,
        coordinates: Coordinates = "header",
        takes_every: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Make a bridge.

        Args:
            opener: Opens a session for frames of a size and type.
            outputs: What the peers are sent.
            tally: Counts what happens.
            device: Images of other device names are not taken; those of all if unset.
            coordinates: How the matrix of an image is read.
            takes_every: Have peers wait instead of dropping frames that newer ones overtake.
            limits: What a peer may do.
        """
        self._opener, self._outputs, self._tally = opener, outputs, tally
        self._device, self._coordinates, self._limits = device, coordinates, limits
        self._mailbox = Mailbox(takes_every=takes_every)
        self._canvases: WeakKeyDictionary[Connection, Canvas] = WeakKeyDictionary()
        self._latest = Latest()
        self._stop = threading.Event()
        self._newest: Frame | None = None  # without an answer when its session was lost
        self._tried_again: Frame | None = None
        self.peers = Peers(self._take, tally, limits)

    def run(self, answers: int | None = None) -> None:
        """Work until `stop` is called, or until so many frames were answered.

        Raises:
            WarplineError: If a session is refused for a reason that no waiting mends, such as the
                reference or the key.
        """
        wait_s = FIRST_WAIT_S
        try:
            while not self._is_done(answers):
                frame = self._mailbox.take(self._stop)
                if frame is None:
                    continue
                answered = self._tally.answers
                failure = self._one_session(frame, answers)
                if self._tally.answers > answered:
                    wait_s = FIRST_WAIT_S
                if failure is not None:
                    self._lost(failure)
                    self._again()
                    self._stop.wait(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        finally:
            self._mailbox.close()
            self.peers.send([status_message(StatusCode.SHUT_DOWN, "end", "The bridge ends.")])
            self.peers.close(LAST_WORD_S if self._stop.is_set() else LAST_ANSWERS_S)

    def stop(self) -> None:
        """Have `run` return."""
        self._stop.set()
        self._mailbox.close()

    def _is_done(self, answers: int | None) -> bool:
        return self._stop.is_set() or (answers is not None and self._tally.answers >= answers)

    def _take(self, connection: Connection, message: Message) -> None:
        """A message of a peer, on the thread that reads from it."""
        if message.kind.startswith(QUERIES):
            self._latest.answer(connection, message)
        elif message.kind == "IMAGE" and self._is_wanted(message.device):
            part = unpack_image(message.content, self._limits.most_bytes, self._coordinates)
            whole = self._canvases.setdefault(connection, Canvas()).add(part)
            if whole is not None:
                self._tally.add(images=1)
                self._tally.add(overtaken=self._mailbox.put(frame_of(whole, message.stamp)))

    def _is_wanted(self, device: str) -> bool:
        """What we sent ourselves does not come in again, whatever a peer does with it."""
        return device not in OURS and self._device in (None, device)

    def _one_session(self, first: Frame, answers: int | None) -> WarplineError | None:
        """A session for frames like this one, until one of another form comes; why it was lost."""
        self._tally.service = "opening a session"
        try:
            session = self._opener(first)
        except WarplineError as error:
            if not error.retryable:
                raise
            self._mailbox.put_back(first)
            self._newest = None
            return error
        self._tally.service = "live"
        link = _Link(session)
        reader = threading.Thread(
            target=self._answer, args=(link,), name="igtl-answers", daemon=True
        )
        reader.start()
        try:
            self._feed(link, first, answers)
        except WarplineError as error:
            return link.failure or error
        finally:
            link.is_ending = True
            session.close()
            reader.join()
            self._newest = link.unanswered()
        return link.failure

    def _feed(self, link: "_Link", first: Frame, answers: int | None) -> None:
        frame: Frame | None = first
        while not self._is_done(answers) and link.failure is None:
            if frame is not None:
                if not frame.is_like(first):
                    self._mailbox.put_back(frame)
                    return
                link.session.send(link.remember(frame), frame)
                self._tally.add(sent=1)
            frame = self._mailbox.take(self._stop)

    def _answer(self, link: "_Link") -> None:
        """Pass on what comes back, on a thread of its own."""
        try:
            for event in link.session.events():
                if isinstance(event, Answer):
                    self._pass_on(event, link.settle(event.number))
                else:
                    self._tally.unanswered(event)
                    self._tell(event)
            if not link.is_ending:
                link.failure = UnavailableError("The live session ended by itself.")
        except WarplineError as error:
            if not link.is_ending:
                link.failure = error

    def _pass_on(self, answer: Answer, frame: Frame | None) -> None:
        if frame is not None:
            messages = self._outputs.messages(answer, frame)
            self._latest.keep(messages)
            self.peers.send(messages)
        self._tally.answered(answer)

    def _tell(self, event: Unanswered) -> None:
        """Tell the peers why a frame was refused; that one was overtaken is no news to them."""
        if event.code:
            message = status_message(StatusCode.UNKNOWN_ERROR, event.code, event.reason)
            self.peers.send([message])

    def _again(self) -> None:
        """Give the frame that was lost with its session another chance, but not a third one."""
        frame = self._newest
        if frame is not None and frame is not self._tried_again:
            self._tried_again = frame
            self._mailbox.put_back(frame)

    def _lost(self, error: WarplineError) -> None:
        self._tally.service = "lost; trying again"
        self._tally.add(reconnects=1)
        self._tally.wrong(error)
        self.peers.send([status_message(StatusCode.LOST, error.slug, error.detail)])


@dataclass
class _Link:
    """A session and the frames that it may still answer."""

    session: Session
    sent: OrderedDict[int, Frame] = field(default_factory=OrderedDict)
    number: int = 0
    answered: int = 0  # the newest frame that was
    is_ending: bool = False
    failure: WarplineError | None = None

    def remember(self, frame: Frame) -> int:
        """Keep a frame for its answer; tells its number."""
        self.number += 1
        self.sent[self.number] = frame
        if len(self.sent) > REMEMBERED:
            self.sent.popitem(last=False)
        return self.number

    def settle(self, number: int) -> Frame | None:
        """The frame that is answered; those before it, which will have no answer, are let go."""
        self.answered = number
        frame = self.sent.pop(number, None)
        for older in [known for known in list(self.sent) if known < number]:
            self.sent.pop(older, None)
        return frame

    def unanswered(self) -> Frame | None:
        """The newest frame, if it has no answer."""
        return self.sent.get(self.number) if self.answered < self.number else None
