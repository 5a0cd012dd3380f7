"""Has `pymzqc` check an mzQC file's meaning: python check_mzqc.py FILE, which prints what it finds.

The vocabularies that the file names must be files of this machine. It runs in a process of its own,
in whose path `pymzqc` lies.
"""

import json
import sys
from pathlib import Path

from mzqc.MZQCFile import JsonSerialisable
from mzqc.SemanticCheck import SemanticCheck

check = SemanticCheck(JsonSerialisable.from_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
check.validate(load_local=True)
found = [[issue.severity, issue.message] for issues in check.data.values() for issue in issues]
json.dump(found, sys.stdout)
