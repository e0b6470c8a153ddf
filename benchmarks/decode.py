"""CTC decoding on one CPU thread: jaxlip's batched search beside flashlight-text's C++ decoder, interleaved.

    pip install -e '.[lm]' -c constraints.txt
    python benchmarks/decode.py                      # GRID sentences in characters: B=80, T=75, K=28
    python benchmarks/decode.py --task words         # words of a large vocabulary: B=8, T=300, K=1232, top-k 32

Posteriors are noise with peaks: the tokens of a random sentence between blanks, and a wrong frame for four tokens.
Prints clips a second (median), edits for each token said, and where both search the same space, how often the best
hypotheses agree and which of the two is the likelier one by the exact CTC score, summed with the language model's.
flashlight prunes by tokens as jaxlip does; "cut at 25" also drops hypotheses that are 25 nats behind the best.
"""

import argparse
import itertools
import pathlib
import tempfile

from pinned import interleaved_seconds, median_and_spread, pin_and_restart

SIZES = {"characters": (80, 75), "words": (8, 300)}
WEIGHT, BONUS = 0.5, 0.5


def grid_task(rng):
    """Vocabulary, sentences (lists of words) and the grammar of the GRID corpus in characters."""
    from jaxlip.data.sources import grid
    from jaxlip.data.vocab import Vocabulary
    from jaxlip.decode.automaton import slots

    parts = (grid.COMMANDS, grid.COLOURS, grid.PREPOSITIONS, grid.LETTERS, grid.DIGITS, grid.ADVERBS)
    vocabulary = Vocabulary.of_characters([" ".join(grid.WORDS)])
    sentences = [[str(rng.choice(words)) for words in parts] for _ in range(2000)]
    names = ("command", "colour", "preposition", "letter", "digit", "adverb")
    return vocabulary, sentences, slots(list(zip(names, parts, strict=True)), vocabulary)


def words_task(rng):
    """1231 words by Zipf's law, in sentences of 25; its lexicon allows them all."""
    import numpy as np

    from jaxlip.data.vocab import Vocabulary
    from jaxlip.decode.automaton import lexicon

    words = ["".join(letters) for letters in itertools.islice(itertools.product("abcdefghijkl", repeat=3), 1231)]
    p = 1 / np.arange(1, len(words) + 1)
    vocabulary = Vocabulary.of_words(words)
    sentences = [rng.choice(words, 25, p=p / p.sum()).tolist() for _ in range(2000)]
    return vocabulary, sentences, lexicon(words, vocabulary)


def peaky(rng, ids, frames: int, size: int):
    """Log-probabilities [T, K] of one clip that says `ids`."""
    import numpy as np

    logits_TK = rng.normal(0, 1.5, (frames, size))
    best_T = np.zeros(frames, int)
    best_T[np.sort(rng.choice(np.arange(0, frames, 2), len(ids), replace=False))] = ids
    wrong_N = rng.choice(frames, len(ids) // 4, replace=False)
    best_T[wrong_N] = rng.integers(0, size, len(wrong_N))
    logits_TK[np.arange(frames), best_T] += 6 + np.log(size / 28)
    return (logits_TK - np.log(np.exp(logits_TK).sum(axis=1, keepdims=True))).astype(np.float32)


def flashlight(log_p_BTK, width: int, top_k: int | None, arpa: pathlib.Path | None, names, threshold: float = 1e9):
    """A function that decodes clip by clip with LexiconFreeDecoder, alignments summed."""
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions, ZeroLM
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    frames, size = log_p_BTK.shape[1:]
    dictionary = Dictionary()
    for name in ("<blank>", *names):
        dictionary.add_entry(name)
    model = ZeroLM() if arpa is None else KenLM(str(arpa), dictionary)
    options = LexiconFreeDecoderOptions(
        beam_size=width,
        beam_size_token=size if top_k is None else top_k + 1,
        beam_threshold=threshold,
        # KenLM's scores are log10.
        lm_weight=WEIGHT * 2.302585092994046,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconFreeDecoder(options, model, 0, 0, [])

    def decode() -> list[tuple[int, ...]]:
        paths = [decoder.decode(log_p_TK.ctypes.data, frames, size)[0].tokens for log_p_TK in log_p_BTK]
        return [tuple(k for k, _ in itertools.groupby(path) if k > 0) for path in paths]

    return decode


def exact_scores(log_p_BTK, transcripts, model, names):
    """Log p of transcripts over all their alignments, plus the model's share."""
    import numpy as np

    from jaxlip.losses.ctc import ctc_loss

    longest = max(map(len, transcripts))
    tokens_BN = np.arange(longest)[None] < np.array([len(tokens) for tokens in transcripts])[:, None]
    labels_BN = np.zeros(tokens_BN.shape, np.int32)
    labels_BN[tokens_BN] = [token for tokens in transcripts for token in tokens]
    log_p_B = -np.asarray(ctc_loss(log_p_BTK, np.ones(log_p_BTK.shape[:2], bool), labels_BN, tokens_BN))
    if model is None:
        return log_p_B
    return log_p_B + [WEIGHT * model.log_p_of([names[token - 1] for token in tokens]) for tokens in transcripts]


def contenders(vocabulary, sentences, grammar, log_p_BTK, width: int, top_k: int | None, folder: pathlib.Path):
    """Name -> function that gives a transcript of every clip; and the model over tokens."""
    import numpy as np

    from jaxlip.decode.arpa import write_arpa
    from jaxlip.decode.beam import beam_search
    from jaxlip.decode.greedy import greedy
    from jaxlip.decode.kenlm import KenLm
    from jaxlip.decode.lm import TokenLm, WordLm, token_names, token_sentence
    from jaxlip.decode.ngram import fit
    from jaxlip.decode.scorers import Sum

    frames_BT = np.ones(log_p_BTK.shape[:2], bool)
    names = token_names(vocabulary)
    token_model = fit([token_sentence(" ".join(words), vocabulary) for words in sentences], 4, names)
    word_model = fit(sentences, 3)
    write_arpa(token_model, folder / "tokens.arpa")
    word_lm = WordLm(word_model, vocabulary, weight=WEIGHT, bonus=BONUS)

    def beam(scorer):
        def decode():
            lists = beam_search(log_p_BTK, frames_BT, width=width, top_k=top_k, scorer=scorer)
            return [hypotheses[0].tokens if hypotheses else () for hypotheses in lists]

        return decode

    runs = {
        "greedy": lambda: greedy(log_p_BTK, frames_BT),
        "beam": beam(None),
        "beam, grammar": beam(grammar),
        "beam, word n-gram": beam(word_lm),
        "beam, grammar and word n-gram": beam(Sum([grammar, word_lm])),
        "beam, token n-gram": beam(TokenLm(token_model, vocabulary, weight=WEIGHT)),
        "beam, token KenLM": beam(TokenLm(KenLm(folder / "tokens.arpa"), vocabulary, weight=WEIGHT)),
        "flashlight": flashlight(log_p_BTK, width, top_k, None, names),
        "flashlight, cut at 25": flashlight(log_p_BTK, width, top_k, None, names, threshold=25),
        "flashlight, token KenLM": flashlight(log_p_BTK, width, top_k, folder / "tokens.arpa", names),
    }
    return runs, token_model, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SIZES, default="characters")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--top-k", type=int, help="none for characters, 32 for words")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    pin_and_restart("default")

    import numpy as np

    from jaxlip.metrics.edit_distance import pair_distances

    rng = np.random.default_rng(0)
    vocabulary, sentences, grammar = (grid_task if options.task == "characters" else words_task)(rng)
    clips, frames = SIZES[options.task]
    top_k = options.top_k or (None if options.task == "characters" else 32)
    truth = [vocabulary.encode(" ".join(words)) for words in sentences[:clips]]
    log_p_BTK = np.stack([peaky(rng, ids, frames, len(vocabulary)) for ids in truth])
    print(f"{options.task}: B={clips} T={frames} K={len(vocabulary)} width {options.width} top-k {top_k}")
    with tempfile.TemporaryDirectory() as folder:
        runs, token_model, names = contenders(
            vocabulary, sentences, grammar, log_p_BTK, options.width, top_k, pathlib.Path(folder)
        )
        said = {name: run() for name, run in runs.items()}
        seconds = interleaved_seconds({name: (run, 1) for name, run in runs.items()}, options.rounds)
    for name, transcripts in said.items():
        median, spread = median_and_spread(seconds[name])
        errors = pair_distances(truth, transcripts).sum() / sum(map(len, truth))
        print(f"{name:30s} {clips / median:9.0f} clips/s  spread {spread:4.0%}  token errors {errors:4.0%}")
    for name, model in (("", None), (", token KenLM", token_model)):
        ours, theirs = said["beam" + name], said["flashlight" + name]
        gain_B = exact_scores(log_p_BTK, ours, model, names) - exact_scores(log_p_BTK, theirs, model, names)
        agree = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
        better, worse = (gain_B > 1e-3).sum(), (gain_B < -1e-3).sum()
        print(f"beam{name} and flashlight{name}: agree {agree:.0%}; jaxlip's is likelier {better} times, less {worse}")


if __name__ == "__main__":
    main()
