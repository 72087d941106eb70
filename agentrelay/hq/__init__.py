"""HQ: the control plane. Knows runners, sessions and people; serves the API and the web UI."""
