#!/usr/bin/env bash
# check.sh VENV CONSTRAINTS: install every example plugin beside Sourcebook, as its author would; run its tests; list it.
set -euo pipefail
venv=$1 constraints=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here"/sourcebook-* "$work"
cd "$work"
export PIP_CONSTRAINT="$constraints"
"$venv/bin/sourcebook" plugins new my-parser --kind parser
folders=(./my-parser ./sourcebook-*)
"$venv/bin/pip" install -q --disable-pip-version-check "${folders[@]/%/[test]}"
for folder in "${folders[@]}"; do
  printf '\n%s\n' "$folder"
  "$venv/bin/python" -m pytest -q -p no:cacheprovider "$folder/tests"
done
printf '[plugins]\nenabled = ["my-parser"' > sourcebook.toml
for folder in ./sourcebook-*; do printf ', "%s"' "${folder#./}" >> sourcebook.toml; done
printf ']\n' >> sourcebook.toml
"$venv/bin/sourcebook" plugins list > plugins.txt
cat plugins.txt
[ "$(grep -c '^\(my-parser\|sourcebook-[a-z-]*\) *active ' plugins.txt)" = "${#folders[@]}" ]
mkdir samples
printf 'The harbour opens at dawn.\n\nIt closes at dusk.\n' > samples/hours.my-parser
"$venv/bin/sourcebook" plugins check my-parser --samples samples
"$venv/bin/sourcebook" parse samples/hours.my-parser --parser my_parser
