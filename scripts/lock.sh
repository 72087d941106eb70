#!/bin/sh
# Write requirements/*.txt: exact versions with hashes. `scripts/lock.sh PYTHON [--upgrade]`.
# Versions stay as they are unless pyproject.toml rules them out or --upgrade is given. Addresses of registries are
# the machine's business and stay out of the files.
set -eu
python=$1
shift
more=$*

lock() { # name of the file, what pip-compile reads
    file=requirements/$1
    shift
    echo "== $file"
    # shellcheck disable=SC2086 # $more is a list of flags
    CUSTOM_COMPILE_COMMAND="make lock" "$python" -m piptools compile --quiet --generate-hashes --allow-unsafe \
        --strip-extras --no-emit-index-url --no-emit-find-links $more --output-file "$file" "$@"
}

export AGENTRELAY_WEB_UI=none # asking the build for its needs takes no web UI
lock build.txt --only-build-deps --build-deps-for wheel pyproject.toml
lock run.txt pyproject.toml
lock runner.txt requirements/runner.in
lock dev.txt --extra dev -c requirements/build.txt -c requirements/run.txt pyproject.toml
