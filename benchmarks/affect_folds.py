"""How long cross-validation of an affect config takes on a corpus of the shared task's size: 3,000 rows, 140 users.

    python benchmarks/affect_folds.py
    python benchmarks/affect_folds.py --config configs/affect_v30.py configs/affect_best.py --repeats 2

Writes made-up entries (`user_series`) as a CSV file in the shared task's layout, and gives it to `jaxlip folds`, which
reads, checks and splits it like any other; all options of that command can follow.
"""

import csv
import pathlib
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from jaxlip.cli import folds  # noqa: E402
from jaxlip.data.sources.user_series import UserSeries, read  # noqa: E402

ROWS, USERS = 3_000, 140
COLUMNS = "user_id,text_id,text,timestamp,collection_phase,is_words,valence,arousal".split(",")


def write_essays(path: pathlib.Path) -> None:
    """ROWS entries of USERS users; those with the longest series lose the end of theirs."""
    entries = read(UserSeries(users=USERS, entries=24))
    kept = set(sorted(range(len(entries)), key=lambda n: entries[n].id)[:ROWS])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n, entry in enumerate(entries):
            if n in kept:
                writer.writerow(
                    [entry.user, f"{entry.user}-{entry.id}", entry.text, entry.time, 1, False, *entry.labels]
                )


def main() -> None:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    if "--config" not in arguments:
        arguments = ["--config", str(REPOSITORY / "configs/affect_v34.py"), *arguments]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "essays.csv"
        write_essays(path)
        with path.open() as file:
            rows = list(csv.DictReader(file))
        print(f"{len(rows)} rows, {len({row['user_id'] for row in rows})} users", flush=True)
        began = time.perf_counter()
        folds.run([*arguments, "--data.source", "essays", "--data.root", str(path)])
        print(f"{(time.perf_counter() - began) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
