#!/bin/sh
# Print the path of a Chromium for the browser tests; CHROMIUM names one, else the usual names are looked up.
# Root on a Debian system gets Debian's chromium installed where there is none.
set -u

look() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return
    done
    return 1
}

if [ -n "${CHROMIUM:-}" ]; then
    command -v "$CHROMIUM" && exit
    echo "CHROMIUM=$CHROMIUM is not a program." >&2
    exit 1
fi
look && exit

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing: Chromium, for the browser tests. Install with: apt install chromium (or CHROMIUM=/path/to/it)" >&2
    exit 1
fi
echo "== installing chromium" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -qq update && apt-get -qq install --no-install-recommends chromium; } >&2; then
    echo "Chromium is missing and apt-get could not install it, see above." >&2
    exit 1
fi
look
