"""The configuration file and the environment, checked once and turned into values.

    config = config.load(path)          # raises ConfigError with every mistake at once
    desk = config.desk(calendar)

Nothing below `cli` reads the file or the environment again.  No message and no `repr`
holds a token.
"""

from copytrader.config.loading import Config, load, of_rules
from copytrader.config.mistakes import ConfigError
from copytrader.config.models import (
    AccountConfig,
    AlertsConfig,
    CopyConfig,
    DhanConfig,
    FilterConfig,
    FollowerConfig,
    LimitsConfig,
    SizingConfig,
)

__all__ = [
    "AccountConfig",
    "AlertsConfig",
    "Config",
    "ConfigError",
    "CopyConfig",
    "DhanConfig",
    "FilterConfig",
    "FollowerConfig",
    "LimitsConfig",
    "SizingConfig",
    "load",
    "of_rules",
]
