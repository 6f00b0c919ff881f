#!/bin/sh
# Run the tests of the extension modules with the extensions built under ASan and UBSan; further arguments go to
# pytest. Needs gcc and PYTHON, the interpreter that has the test requirements.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/lib"
cp -r "$root/deltavcs" "$work/lib/deltavcs"
find "$work/lib" -name '*.so' -delete
cd "$root"
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all"
CC=gcc CFLAGS="-g $sanitizers" LDFLAGS="$sanitizers" \
    "$python" setup.py -q build_ext --build-lib "$work/lib" --build-temp "$work/build"
for module in codec objects tensors; do
    ls "$work/lib/deltavcs/$module"/_native*.so >/dev/null
done
# Python's own allocator would hide from ASan where a buffer ends. The interpreter never frees everything.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH="$work/lib" \
    "$python" -P -m pytest -q -p no:cacheprovider -n 0 "$@"
