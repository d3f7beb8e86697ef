from . import report as report
from .folder import keep_settings as keep_settings
from .folder import run_folder as run_folder
from .logger import Logger as Logger
from .logger import make_logger as make_logger
from .processes import JobError as JobError
from .processes import JobPool as JobPool
from .processes import cores as cores
from .progress import ProgressBar as ProgressBar
from .stopping import Interrupted as Interrupted
from .stopping import end_with_parent as end_with_parent
from .stopping import handled_signals as handled_signals
from .stopping import patience as patience
from .stopping import stop_asked as stop_asked
from .tables import markdown as markdown
from .tables import read_csv as read_csv
from .tables import write_csv as write_csv
from .tables import write_text as write_text

__all__: list[str]
