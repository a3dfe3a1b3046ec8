"""The live screen of `follow`.

`Watching` notes what happens, `page` turns that and the copier's state into lines that fit a terminal, and
`Screen` puts them there.
"""

from copytrader.view.lines import Line
from copytrader.view.messages import Watching
from copytrader.view.page import Known, page
from copytrader.view.screen import Screen

__all__ = ["Known", "Line", "Screen", "Watching", "page"]
