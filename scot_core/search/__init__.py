"""Composed search: a reference image and a modification text in, images out (§3.4).

from scot_core.search import Searcher

searcher = Searcher("lake")
answer = searcher.search("mug.png", "in red instead", k=5)
"""

from scot_core.search.answer import Answer
from scot_core.search.methods import Composed, Method
from scot_core.search.searcher import Searcher

__all__ = ["Answer", "Composed", "Method", "Searcher"]
