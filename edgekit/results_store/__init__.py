"""Every result is kept: one folder a result under ``.edgekit/results``, and an SQLite index of them.

    .edgekit/results/
      20261123T180030-bench-3f9c2a1e/    appears whole, by rename, and never changes
        result.json                      what was measured, on what, with which versions, by which command
        samples-0.npy …                  the raw latencies, one file a series
      index.sqlite                       a copy of what the folders say: rebuilt whenever it does not agree with them

Writers touch no shared file, so any number of them can work at once; a run that is killed leaves nothing that counts.
"""

from .record import Record, device_name, fingerprint
from .samples import SAMPLE, flatten, unflatten
from .store import Kept, Listing, Row, Store, default_folder, find_result, keep

__all__ = [
    "SAMPLE",
    "Kept",
    "Listing",
    "Record",
    "Row",
    "Store",
    "default_folder",
    "device_name",
    "find_result",
    "fingerprint",
    "flatten",
    "keep",
    "unflatten",
]
