from ._baselines import BASELINES as BASELINES
from ._compare import compare as compare
from ._comparison import Comparison as Comparison, Run as Run, Speedup as Speedup
from ._curves import speedup_at_target as speedup_at_target, steps_to_target as steps_to_target
from ._history_plot import HistoryPlot as HistoryPlot
from ._json import to_json as to_json, write_json as write_json
from ._machine import machine as machine
from ._monitor import Monitor as Monitor, MonitorState as MonitorState, Trace as Trace
from ._plot import plot as plot
from ._plot_fronts import plot_fronts as plot_fronts
from ._program import Cost as Cost
from ._report import report as report
from ._sinks import (
    CSVFile as CSVFile,
    JSONLines as JSONLines,
    LiveTable as LiveTable,
    Sink as Sink,
    TensorBoard as TensorBoard,
)
from ._tuning import Tuning as Tuning
