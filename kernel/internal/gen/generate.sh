#!/bin/sh
# Writes the assembly of package kernel. With "check" it writes nothing and
# fails if what is checked in is not what the generator gives.
set -eu
cd "$(dirname "$0")"
if [ "${1-}" != check ]; then
  exec go run . -out ../../vector_amd64.s -pkg kernel
fi
# The command line is in the file: generate under the same name, elsewhere.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/a/b/c"
go build -o "$dir/main" .
(cd "$dir/a/b/c" && "$dir/main" -out ../../vector_amd64.s -pkg kernel)
sed 1d "$dir/a/vector_amd64.s" >"$dir/want"
sed 1d ../../vector_amd64.s | diff -u - "$dir/want"
