#!/bin/sh
# Check for tools of this machine: `scripts/require.sh python cc` or `scripts/require.sh node`.
# Says in one line what to install, for everything that is missing at once, and fails; silent if nothing is.
set -u
missing= packages=

lacks() { # what it is called, the Debian package that has it
    missing="${missing:+$missing, }$1"
    packages="${packages:+$packages }$2"
}

node_note=
for tool in "$@"; do
    case $tool in
    python)
        python=${PYTHON:-python3}
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            lacks "Python 3.11 or newer (PYTHON=... names another than $python)" python3
        else
            # Debian packs these two apart from Python itself.
            "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv module" python3-venv
            "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
                lacks "Python's C headers" python3-dev
        fi
        ;;
    cc)
        cc=${CC:-cc}
        command -v "${cc%% *}" >/dev/null 2>&1 || lacks "a C compiler" gcc
        ;;
    node)
        # 20.19 is the oldest that the web UI's build tool runs on.
        version=$(node --version 2>/dev/null)
        if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a * 100 + Number(b) < 2019 ? 1 : 0)' \
            2>/dev/null || ! command -v npm >/dev/null 2>&1; then
            missing="${missing:+$missing, }Node 20.19 or newer with npm${version:+ (this one is $version)}"
            node_note="; Node: https://nodejs.org/en/download (Debian 12's own is 18)"
        fi
        ;;
    *)
        echo "require.sh: unknown tool $tool" >&2
        exit 2
        ;;
    esac
done

[ -n "$missing" ] || exit 0
echo "Missing: $missing. Install with: ${packages:+apt install $packages}$node_note" |
    sed 's/with: ; Node: /from: /' >&2
exit 1
