"""Runs: what learns in a folder of its own, with its log, its processes and its report.

Imported on first use; ``__init__.pyi`` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
