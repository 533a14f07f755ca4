"""The words of a question that say what it is about, and words without their inflections: by rules alone."""

from __future__ import annotations

import re
from functools import lru_cache

from sourcebook.sentences import terms

# Words that ask and bind, and say nothing of the matter. In the scores a word's rareness weighs it; but whether any
# sentence fits is asked of the other words alone. Languages that are not here do without.
_FUNCTION_WORDS = """
a about all an and any are as at be been by can could did do does for from had has have how i if in into is it its many
me much must my of on or our shall should tell than that the their them there they this to was we were what when where
which who whom whose why will with would you your
ab als am an auf aus bei bis da das dass dem den der des die dies diese dieser ein eine einem einen einer eines er es
für gibt haben hat ich ihr im ist kann man mein mir mit nach oder sein sich sie sind so um und unser viel viele vom von
vor wann war warum was welche welchem welchen welcher welches wem wen wenn wer werden wie wieso wieviel wir wird wo
woher wohin wurde zu zum zur über
au aux avec ce ces combien comment dans de des du elle en est et il je la le les leur ou où par pour pourquoi qu quand
que quel quelle quelles quels qui quoi se son sont sur un une
como con cuando cuánto cuántos cuál cómo cuándo del donde dónde el es está los las para por qué quién su una y
في من على ما ماذا هو هي هل كم متى أين كيف لماذا إلى عن التي الذي هذا هذه كان أن و مع أو أي
"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
# The same for scripts without spaces, where they would make pairs with their neighbours.
_ASKING = re.compile(
    "什么|多少|多久|多高|多大|多长|哪里|哪儿|哪个|哪些|怎么|怎样|为什么|如何|何时|什麼|怎麼|為什麼|是否|[谁誰几幾吗嗎呢的是有在了和与與]"
    "|ですか|ますか|ました|です|ます|どこ|いつ|なぜ|どの|どれ|だれ|いくつ|いくら|ください|[はがをにのでとへも何誰]"
)
_SUFFIX = re.compile(r"(?<=\w{3})(?:ing|ies|ed|es|en|er|e|n|y)\Z")
_ARTICLE = re.compile("^(?:[وفبك]?ال|لل)(?=.{3})")
_ALEF = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه"})


def asked_words(question: str) -> list[str]:
    """The words of `question` but those that ask and bind, in order."""
    return [word for word in terms(_ASKING.sub(" ", question)) if word not in _FUNCTION]


@lru_cache(maxsize=50_000)
def stem_of(word: str) -> str:
    """A word without its inflections, roughly: one or two endings off, then five letters ("F5": Can et al., 2008)."""
    if len(word) < 4 or not word.isalpha():
        return word
    if "\u0600" <= word[0] <= "\u06ff":
        return _ARTICLE.sub("", word.translate(_ALEF))
    if word[-1] == "s" and word[-2] != "s":
        word = word[:-1]
    return _SUFFIX.sub("", word)[:5]
