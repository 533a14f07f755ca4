#!/usr/bin/env bash
# check.sh VENV CONSTRAINTS: install the plugin distribution beside Sourcebook; name it in the config; use it.
set -euo pipefail
venv=$1 constraints=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PIP_CONSTRAINT="$constraints" "$venv/bin/pip" install -q --disable-pip-version-check "$here/sourcebook-shout"
cd "$work"
echo "the harbour opens at dawn" > morning.shout

"$venv/bin/sourcebook" plugins list > plugins.txt
cat plugins.txt
grep -q '^sourcebook-shout *off' plugins.txt
if "$venv/bin/sourcebook" ingest loud morning.shout; then echo "it was read without being enabled"; exit 1; fi

printf '[plugins]\nenabled = ["sourcebook-shout"]\n' > sourcebook.toml
"$venv/bin/sourcebook" plugins list > plugins.txt
grep -q '^sourcebook-shout *active .*parsers: shout' plugins.txt
echo "the harbour opens at dusk" > evening.shout
"$venv/bin/sourcebook" ingest loud evening.shout
"$venv/bin/sourcebook" search loud "When does the harbour open?" | grep 'HARBOUR OPENS AT DUSK'
