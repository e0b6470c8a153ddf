"""Which way a metric is better."""

HIGHER = ("accuracy", "top5", "macro_f1", "f1", "ccc", "pearson", "r_composite", "r_within", "r_between", "r2")


def higher_is_better(name: str) -> bool:
    """Whether a metric, such as "accuracy" or "valence_ccc", is to be maximised; losses and error rates are not."""
    last = f"_{name.rpartition('/')[2]}_"
    return any(f"_{word}_" in last for word in HIGHER)
