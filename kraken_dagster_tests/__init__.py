"""Kraken's tests, on real parts."""

import os
from ctypes.util import find_library

# Before `mfusepy` is imported, which takes version 2 where both are installed: that one knows no
# renames that replace nothing.
if _fuse := find_library("fuse3"):
    os.environ["FUSE_LIBRARY_PATH"] = _fuse
