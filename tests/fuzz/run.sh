#!/bin/sh
# Fuzz the native decoder under ASan and UBSan for SECONDS (default 20); further arguments: a seed (gcc) or
# libFuzzer options (clang). Needs clang or gcc; FUZZ_CC picks one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
csrc=$here/../../deltavcs/codec/csrc
seconds=${1:-20}
[ $# -gt 0 ] && shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources="$here/decode_fuzz.c $csrc/scalar.c $csrc/avx2.c $csrc/avx512.c $csrc/payload.c $csrc/planes.c $csrc/count.c $csrc/model.c $csrc/tune.c"
flags="-g -O1 -std=c11 -fno-strict-aliasing -fno-sanitize-recover=all -fno-omit-frame-pointer"
cc=${FUZZ_CC:-$(command -v clang || command -v gcc || echo none)}
case $cc in
*clang*)
    "$cc" $flags -DLIBFUZZER -fsanitize=fuzzer,address,undefined $sources -lm -o "$work/fuzz"
    "$cc" -O1 -std=c11 -fno-strict-aliasing $sources -lm -o "$work/make"
    mkdir "$work/corpus"
    "$work/make" corpus "$work/corpus"
    "$work/fuzz" -max_total_time="$seconds" -max_len=65536 "$@" "$work/corpus"
    ;;
none)
    echo "no C compiler" >&2
    exit 1
    ;;
*)
    "$cc" $flags -fsanitize=address,undefined $sources -lm -o "$work/fuzz"
    "$work/fuzz" "$seconds" "$@"
    ;;
esac
