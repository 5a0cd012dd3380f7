#!/bin/sh
# What the image leaves out of its Python packages: slim.sh PREFIX, that of the virtual environment.
# Measured, in MB: symbols 45, pandas 40, pyarrow's servers and clouds 48, its headers and sources 12, maps and
# films of Dagit's scripts 23, tests 20, uvloop, pip and setuptools 40. Kept, as pyarrow is linked to it:
# libarrow_substrait. The image's build imports what is used, afterwards.
set -eu
python=$1/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# pandas is the notebook client's only. uvloop is a loop that is only faster.
"$python" -m pip uninstall -y -q pandas uvloop setuptools pip
rm -rf "$site"/pyarrow/include "$site"/pyarrow/src "$site"/numpy/f2py "$site"/numpy/distutils \
  "$site"/sqlalchemy/testing "$site"/alembic/testing "$site"/distutils-precedence.pth
find "$site"/pyarrow \( -name '*flight*' -o -name '_substrait*' -o -name '*_s3*' -o -name '_gcsfs*' \
  -o -name '_azurefs*' -o -name 'libarrow_python*.so' -o -name 'libarrow_python*.so.*.*' \) -delete
find "$site"/dagster_webserver \( -name '*.map' -o -name '*.mp4' \) -delete
find "$site" \( -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.a' -o -name '*.h' \
  -o -name '*.hpp' \) -delete
find "$site" -type d -name tests -not -path '*/dagster*' -prune -exec rm -rf {} +
# Not what auditwheel has put beside a package: its sections lie where strip doesn't expect them. What was
# stripped is loaded once.
find "$site" -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
find "$site" -type f -name '*.so*' -not -path '*.libs/*' | "$python" -c '
import ctypes, sys
for line in sys.stdin:
    ctypes.CDLL(line.strip())'
