/** What the form for a new session makes of its fields. */
import { CommandLineError, splitCommandLine } from "../../wire/commandLine";
import type { StartSession } from "../../wire/messages";

export interface NewSessionFields {
  /** Name of a preset; empty: the login shell. Counts only where `commandLine` is blank. */
  preset: string;
  commandLine: string;
  cwd: string;
  name: string;
  recording: boolean;
}

export type FieldError = { field: "commandLine"; message: string };

/** Give the request for these fields, or say which field is wrong. */
export function readFields(fields: NewSessionFields): StartSession | FieldError {
  const request: StartSession = { recording: fields.recording };
  try {
    const command = splitCommandLine(fields.commandLine);
    if (command.length > 0) request.command = command;
    else if (fields.preset) request.preset = fields.preset;
  } catch (error) {
    if (error instanceof CommandLineError) return { field: "commandLine", message: error.message };
    throw error;
  }
  if (fields.cwd.trim()) request.cwd = fields.cwd.trim();
  if (fields.name.trim()) request.name = fields.name.trim();
  return request;
}
