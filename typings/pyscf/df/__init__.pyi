from . import addons as addons, incore as incore
