#!/usr/bin/env bash
# Install the Gatehouse that this script lies in, apart from the user's environment: an own virtual environment
# in the runner's temp folder, and on the PATH a folder that holds only the `gatehouse` command.
set -euo pipefail

source=$(cd "$GATEHOUSE_SOURCE" && pwd -P)
home=$RUNNER_TEMP/gatehouse
mkdir -p "$home/bin"

# An earlier step of the job may have set it up already, without these extras or with others, which stay.
# `read` takes any white space between them, ends of lines too, and reports that no NUL ended them.
read -r -d '' -a extras <<< "$EXTRA" || true
missing=()
for extra in ${extras[@]+"${extras[@]}"}; do # in bash 3.2, macOS's own, an empty array counts as unset
  [ -e "$home/installed-$extra" ] || missing+=(--extra "$extra")
done
if [ ! -e "$home/installed" ] || [ ${#missing[@]} -gt 0 ]; then
  # The user's settings for pip, uv and Python are about their project, not about ours.
  env -u UV_PYTHON -u UV_PROJECT -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL \
    -u UV_FIND_LINKS -u UV_CONSTRAINT -u UV_OVERRIDE -u UV_NO_BINARY -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV \
    UV_PROJECT_ENVIRONMENT="$home/venv" UV_NO_CONFIG=1 \
    uv sync --quiet --frozen --no-dev --no-editable --inexact ${missing[@]+"${missing[@]}"} \
    --project "$source" --python '>=3.11,<3.14'
  # -I: neither PYTHONPATH nor a file named yaml.py in the checkout reaches the interpreter.
  printf '#!/bin/sh\nexec "%s" -I -m gatehouse "$@"\n' "$home/venv/bin/python" > "$home/bin/gatehouse.new"
  chmod +x "$home/bin/gatehouse.new"
  mv "$home/bin/gatehouse.new" "$home/bin/gatehouse"
  touch "$home/installed"
  for extra in ${extras[@]+"${extras[@]}"}; do touch "$home/installed-$extra"; done
fi

version=$("$home/bin/gatehouse" --version)
echo "$version"
echo "version=${version#gatehouse }" >> "$GITHUB_OUTPUT"
echo "$home/bin" >> "$GITHUB_PATH"
