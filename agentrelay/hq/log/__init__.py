"""The output log: every byte of a session on disk, with its sizes, input events, gaps and end.

`SessionLog` is one session's files, `LogWriter` the thread that writes all of them, `LogBudget` the limit
over all of them. The format is described in docs/log-format.md.
"""
