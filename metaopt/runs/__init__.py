from ._describe import describe as describe
from ._execute import execute as execute
from ._launch import supervise as supervise
from ._spec import Evaluation as Evaluation, Run as Run, find as find, names as names
