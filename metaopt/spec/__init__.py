from ._build import build as build, normalize as normalize
from ._error import SpecError as SpecError
from ._override import override as override
from ._registry import Factory as Factory, Option as Option, Registry as Registry
from ._text import dumps as dumps, read as read
