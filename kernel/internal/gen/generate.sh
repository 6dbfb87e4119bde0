#!/bin/sh
# Writes the assembly of package kernel. With "check" it writes nothing and
# fails if what is checked in is not what the generators give.
set -eu
cd "$(dirname "$0")"
if [ "${1-}" != check ]; then
  go run . -out ../../vector_amd64.s -pkg kernel
  go run ./arm64 >../../vector_arm64.s
  exit
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go run . -out "$dir/amd64" -pkg kernel
go run ./arm64 >"$dir/arm64"
# The first line of avo's output is its command line.
sed 1d "$dir/amd64" >"$dir/want"
sed 1d ../../vector_amd64.s | diff -u - "$dir/want"
diff -u ../../vector_arm64.s "$dir/arm64"
