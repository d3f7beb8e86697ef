"""What reports are made of: aggregates over seeds and tasks, words, curves, and the report itself.

Imported on first use; ``__init__.pyi`` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
