from .aggregates import RESAMPLES as RESAMPLES
from .aggregates import Estimate as Estimate
from .aggregates import Profile as Profile
from .aggregates import Row as Row
from .aggregates import aggregate as aggregate
from .aggregates import matrix as matrix
from .aggregates import methods_of as methods_of
from .aggregates import profile as profile
from .aggregates import tasks_of as tasks_of
from .plots import Curves as Curves
from .plots import colors_of as colors_of
from .plots import legend_above as legend_above
from .plots import plot_curves as plot_curves
from .plots import save_figure as save_figure
from .plots import shades as shades
from .plots import subplots as subplots
from .words import counted as counted
from .words import fill as fill
from .words import interval as interval
from .words import label_of as label_of
from .words import spread as spread
from .words import verdict as verdict
from .writing import read_curves as read_curves
from .writing import write_report as write_report

__all__: list[str]
