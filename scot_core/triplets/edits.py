"""Whether a modified caption is its caption with the modification applied, as far as the words can tell.

The words that came and went between the two captions are aligned with the words of the modification. That
needs no grammar of a data set: what is new must be spoken of, what is asked for must be there, and what went
must have been replaced or removed on request. A short list of English function words, operations ("make",
"remove") and generic nouns ("colour", "background") tells words of content from the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_FUNCTION: Final = _words(
    """a an the this that these those it its it's he she they his her their him them there here i you we my your me
    is are was were be been being am has have had having do does did can could will would should may might must
    and or but so then than as if while also too very more most much many some any each both just only still all
    of in on at to for from by with into onto over under up down out about near next through between behind
    above below around along across against like shown seen pictured photographed
    """
)  # fmt: skip
# Verbs and nouns by which a request is made, and which the wanted image need not show.
_REQUEST: Final = _words(
    """make made turn change changed changes switch swap replace replaced convert transform give let put place set show
    shows shown showing add added adding include insert bring move keep choose pick use see display want wants like
    prefer need looks look looking appear appears become becomes come comes increase decrease reduce enlarge shrink
    remove removed removing take taken lose drop omit delete erase get rid off photograph photographed picture pictured
    photo image scene shot take instead rather same similar different another other one ones version now
    please what where not no without minus never none nothing
    colour color colours colors coloured colored pattern patterned style size shape material background setting
    thing item object product kind type number
    """
)  # fmt: skip
_LARGE: Final = _words("large larger largest big bigger biggest huge giant oversized enlarge increase")
_SMALL: Final = _words("small smaller smallest little tiny mini miniature compact reduce decrease shrink")
_COLOUR: Final = _words(
    "red orange yellow green blue purple pink brown black white grey gray beige gold golden silver violet navy"
)
_ABSENT: Final = _words("no not without none nothing plain bare empty blank solid removed free")
_REMOVAL: Final = _words(
    "remove removed removing without no not minus lose drop omit delete erase off rid none nothing plain bare"
)
# After these, a request names what is there and shall not stay: "remove the ball", "a cat instead of the dog".
_OLD_AFTER: Final = re.compile(
    r"\b(?:remove|removing|take off|take away|get rid of|lose|drop|omit|delete|erase|without|no|not|minus"
    r"|nothing|instead of|rather than)\s+(.+?)(?=\s+(?:with|for|to|into|and|but|by|from|in|on)\b|[,;.]|$)"
    r"|\b(?:replace|swap|exchange|trade|substitute)\s+(.+?)(?=\s+(?:with|for|by)\b)"
)
_SAME: Final = re.compile(r"\bsame\s+[\w-]+")  # is there, and stays
_CLAUSE: Final = re.compile(r"\s*[,;.]\s*|\s+(?:and|but|then|while)\s+")
# A request for another thing altogether ("turn it into a boat", "is a cat"): parts of the old one may go with it.
_NEW_THING: Final = re.compile(
    r"\b(?:make (?:it|this|that|them)|into|swap .+ for|replace .+ with|change .+ to|is|as|same [\w-]+ (?:on|as)|be)"
    r"\s+(?:an?|some)\s+(?:[\w'-]+\s+){0,2}?[\w'-]+$"
)
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_WORD_OR_MARK: Final = re.compile(_WORD.pattern + r"|[^\w\s]")
_SUFFIXES: Final = ("ing", "ies", "est", "ed", "er", "es", "en", "ly", "s", "y", "d", "e")

_MISSING_SHARE: Final = 1 / 2  # of a clause's words that may be missing from the modified caption
_LOST_SHARE: Final = 0.7  # of the caption's words that may go
_SPARE: Final = 1  # a phrase of so many words more may make room for another: "ice cream" for "cake"
_PARTS: Final = 3  # words that may go with a thing that is replaced


def fault(caption: str, modification: str, modified_caption: str) -> str | None:
    """The first thing wrong with an edit, None where nothing seems to be.

    Returns:
        "unapplied_edit": something asked for is not in the modified caption, or was in the caption already;
        "unsupported_edit": the modified caption has new words of which the modification does not speak;
        "lost_content": words went that nobody asked to remove or replace.
    """
    request = Request.of(modification)
    change = Change.between(content(caption), content(modified_caption))
    if not _is_applied(request, change):
        return "unapplied_edit"
    if not _is_supported(request, change):
        return "unsupported_edit"
    return None if _is_kept(request, change) else "lost_content"


Relation = Callable[[str, str], bool]  # whether two words are one


@dataclass(frozen=True, slots=True)
class Word:
    """A word of content and its place among all words and marks of its text."""

    text: str
    place: int


def content(text: str) -> list[Word]:
    """Words of content in order: lower case, without function words; negations count as content."""
    words = enumerate(_WORD_OR_MARK.findall(text.lower()))
    return [Word(word, place) for place, word in words if word[0].isalnum() and word not in _FUNCTION]


def related(a: str, b: str) -> bool:
    """Whether two words are one word in different forms: "stripes" and "striped", "larger" and "large"."""
    if a == b:
        return True
    stem_a, stem_b = _stem(a), _stem(b)
    if stem_a == stem_b:
        return True
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return shared >= 4 and shared >= 0.7 * max(len(stem_a), len(stem_b))


@lru_cache(maxsize=10_000)  # captions say the same words over and over
def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            stem = word.removesuffix(suffix)
            return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem
    return word


@dataclass(frozen=True, slots=True)
class Clause:
    """One request of a modification: words that shall be there, words that shall go, whether something goes."""

    wanted: frozenset[str]
    old: frozenset[str]
    removes: bool

    @classmethod
    def of(cls, text: str) -> Clause:
        words = {word.text for word in content(_SAME.sub("same", text))}
        goes = {w.text for found in _OLD_AFTER.finditer(text) for w in content(found.group(1) or found.group(2))}
        wanted = frozenset(words - goes - (_REQUEST - _LARGE - _SMALL) - _ABSENT)
        return cls(wanted, frozenset(goes - _REQUEST), bool(words & _REMOVAL))


@dataclass(frozen=True, slots=True)
class Request:
    """A modification: its clauses, its words of content, and whether it asks for another thing altogether."""

    clauses: tuple[Clause, ...]
    words: frozenset[str]
    new_thing: bool

    @classmethod
    def of(cls, modification: str) -> Request:
        texts = _CLAUSE.split(modification.lower().strip(" .!?"))
        words = frozenset(word.text for word in content(modification))
        return cls(tuple(map(Clause.of, texts)), words, any(map(_NEW_THING.search, texts)))

    def speaks_of(self, word: str, same: Relation = related) -> bool:
        """Whether a word is one of the request's, as `same` tells, or of a family that it names."""
        families = ((_LARGE, _LARGE), (_SMALL, _SMALL), (_ABSENT, _REMOVAL))
        if any(word in family and self.words & spoken for family, spoken in families):
            return True
        return any(same(word, w) for w in self.words)


@dataclass(frozen=True, slots=True)
class Run:
    """Words that went from one place, `at` of the caption's words of content, and words that came there."""

    at: int
    gone: tuple[str, ...]
    come: tuple[Word, ...]

    @property
    def end(self) -> int:
        return self.at + len(self.gone)


@dataclass(frozen=True, slots=True)
class Change:
    """Words of content of both captions, and the runs by which these differ."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    runs: tuple[Run, ...]
    places: tuple[int, ...]  # of the words before

    @classmethod
    def between(cls, before: Sequence[Word], after: Sequence[Word]) -> Change:
        # By stems: "two dogs play" and "one dog plays" differ in one word.
        stems = [[_stem(word.text) for word in words] for words in (before, after)]
        steps = SequenceMatcher(None, stems[0], stems[1], autojunk=False).get_opcodes()
        texts = tuple(word.text for word in before)
        runs = [Run(i, texts[i:j], tuple(after[k:m])) for tag, i, j, k, m in steps if tag != "equal"]
        places = tuple(word.place for word in before)
        return cls(texts, tuple(word.text for word in after), tuple(runs), places)

    def in_one_phrase(self, first: int, last: int) -> bool:
        """Whether nothing but words of content is between two words of the caption."""
        return last < len(self.places) and self.places[last] - self.places[first] == last - first

    @property
    def come(self) -> list[str]:
        return [word.text for run in self.runs for word in run.come]

    @property
    def gone(self) -> list[str]:
        return [word for run in self.runs for word in run.gone]


def has(word: str, words: Iterable[str], same: Relation = related) -> bool:
    """Whether a word, or another of its family, is among others."""
    for family in (_LARGE, _SMALL):
        if word in family:
            return any(w in family for w in words)
    return any(same(word, w) for w in words)


def _is_applied(request: Request, change: Change) -> bool:
    """Every clause shows in the modified caption by words that are new, and what shall go has gone."""
    come, gone = change.come, change.gone
    unnamed = 0
    for clause in request.clauses:
        missing = sum(not has(word, change.after) for word in clause.wanted)
        if clause.wanted and (
            missing > _MISSING_SHARE * len(clause.wanted) or not any(has(w, come) for w in clause.wanted)
        ):
            return False
        named = [word for word in clause.old if has(word, change.before)]
        if any(not has(word, gone) and not is_denied(word, change.after) for word in named):
            return False
        unnamed += clause.removes and not named
    # What goes without having been named ("make it plain") leaves a word of absence, or a gap.
    gaps = sum(len(run.gone) > len(run.come) for run in change.runs)
    return bool(come or gone) and unnamed <= gaps + sum(word in _ABSENT for word in come)


def is_denied(word: str, words: Sequence[str]) -> bool:
    """Whether a word stands after a word of absence: "no ball"."""
    return any(related(w, word) and i > 0 and words[i - 1] in _ABSENT for i, w in enumerate(words))


def _is_supported(request: Request, change: Change) -> bool:
    """Every new word is spoken of, was moved, or is the noun right after such a word where nothing made room for it."""
    moved = list(change.gone)
    for run in change.runs:
        led_at: int | None = None
        for word in run.come:
            if request.speaks_of(word.text):
                led_at = word.place
            elif word.text in moved:
                moved.remove(word.text)
            elif run.gone or led_at is None or word.place != led_at + 1:
                return False
    return True


def _is_kept(request: Request, change: Change) -> bool:
    """Words go only where others come for them, where the request names them, or with a thing that is replaced."""
    if len(change.gone) > _LOST_SHARE * len(change.before) or _has_orphan(request, change):
        return False
    come = change.come
    fillers = [run for run in change.runs if run.come and not run.gone]
    unnamed = sum(clause.removes and not any(has(w, change.before) for w in clause.old) for clause in request.clauses)
    loose = 0
    for run in change.runs:
        gone = [word for word in run.gone if word not in come]
        if run.come:
            loose += max(0, len(gone) - len(run.come) - _SPARE)
        elif gone and not any(map(request.speaks_of, gone)):
            filler = next((f for f in fillers if change.in_one_phrase(min(run.at, f.at), max(run.end - 1, f.at))), None)
            if filler is not None:  # it moved within the phrase: "old grey barn", "grey wooden barn"
                fillers.remove(filler)
            elif unnamed:
                unnamed -= 1
            else:
                loose += len(gone)
    return loose <= (_PARTS if request.new_thing else 0)


def _has_orphan(request: Request, change: Change) -> bool:
    """Whether a size or colour left a thing that stays, without being spoken of or replaced by another."""
    come = change.come
    for run in change.runs:
        for i in range(run.at, run.end):
            family = next((f for f in (_LARGE | _SMALL, _COLOUR) if change.before[i] in f), None)
            if family is None or not change.in_one_phrase(i, run.end) or request.speaks_of(change.before[i]):
                continue
            if not any(word in family for word in come):
                return True
    return False
