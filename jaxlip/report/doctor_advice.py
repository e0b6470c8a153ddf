"""The next change of a config, as the option that makes it: one step at a time, of what is strongest or weakest."""

from jaxlip.report.record import Record


def scaled(record: Record, path: str, factor: float) -> str:
    value = record.option(path)
    return f"--{path} {value * factor:.2g}" if isinstance(value, int | float) and value else ""


def regularisers(record: Record) -> dict[str, float]:
    """Dropouts, weight decay, label smoothing that are on."""
    names = ("dropout", "weight_decay", "label_smoothing")
    return {
        path: value
        for path, value in record.options()
        if isinstance(value, int | float) and value and path.split(".")[-1].endswith(names)
    }


def dropout_of(record: Record) -> tuple[str, float] | None:
    """The strongest dropout of the model, on or off."""
    found = {
        p: v for p, v in record.options() if ".model." in p and p.endswith("dropout") and isinstance(v, int | float)
    }
    path = max(found, key=lambda name: found[name], default=None)
    return None if path is None else (path, float(found[path]))


def regularise(record: Record, *, smaller: bool = False) -> str:
    """The next step against overfitting: a smaller model where it is far too large, dropout, else weight decay."""
    hidden, dropout = record.option("task.model.hidden"), dropout_of(record)
    if smaller and isinstance(hidden, int):
        return f"--task.model.hidden {hidden // 2}"
    if dropout is not None and dropout[1] < 0.7:
        return f"--{dropout[0]} {min(dropout[1] + 0.1, 0.7):.2g}"
    return scaled(record, "optim.weight_decay", 3.0)


def loosen(record: Record) -> str:
    """The next step against underfitting: less of what is strongest, else a larger model."""
    dropout, hidden = dropout_of(record), record.option("task.model.hidden")
    if dropout is not None and dropout[1] >= 0.4:
        return f"--{dropout[0]} {dropout[1] - 0.1:.2g}"
    if isinstance(hidden, int):
        return f"--task.model.hidden {hidden * 3 // 2}"
    return f"--train.epochs {2 * record.option('train.epochs', 20)}"
