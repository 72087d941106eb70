#!/bin/sh
# Installs the agents that `make test-agents` drives, into a scratch folder, and prints its name.
# They are large (700 MB) and change every few days, so they are in no lockfile.
set -eu
folder=${AGENTS:-${TMPDIR:-/tmp}/agentrelay-agents}
mkdir -p "$folder"
if ! [ -e "$folder/node_modules/.installed" ]; then
    echo "== installing Codex, Gemini CLI and Claude Code into $folder" >&2
    (cd "$folder" && npm install --silent --no-save --no-audit --no-fund --prefix . \
        @openai/codex @google/gemini-cli @anthropic-ai/claude-code >&2)
    touch "$folder/node_modules/.installed"
fi
echo "$folder"
