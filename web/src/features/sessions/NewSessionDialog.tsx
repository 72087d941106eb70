import { CornerDownLeft } from "lucide-react";
import { RadioGroup } from "radix-ui";
import { type FormEvent, type KeyboardEvent, useId, useState } from "react";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { Field, SelectInput, TextInput } from "../../ui/Field";
import { Switch } from "../../ui/Switch";
import type { StartSession } from "../../wire/messages";
import type { RunnerInfo } from "../../wire/objects";
import type { RunnerId } from "../../wire/values";
import { type NewSessionFields, readFields } from "./newSession";
import { readRecent, rememberStart } from "./recentStarts";

export interface NewSessionWish extends Partial<NewSessionFields> {
  runnerId?: RunnerId;
  /** A command line is to be typed: that is where the focus goes. */
  command?: boolean;
}

interface NewSessionDialogProps {
  runners: readonly RunnerInfo[];
  /** What is filled in already. */
  wish: NewSessionWish;
  onStart: (runnerId: RunnerId, request: StartSession) => void;
  onClose: () => void;
}

export function NewSessionDialog({ runners, wish, onStart, onClose }: NewSessionDialogProps) {
  const id = useId();
  const [recent] = useState(readRecent);
  const online = runners.filter((runner) => runner.online);
  const [chosenRunner, setRunner] = useState(wish.runnerId ?? recent.runner);
  const runner = online.find((one) => one.runner_id === chosenRunner) ?? online[0];
  const options = presetOptions(runner);
  const directories = (runner && recent.directories[runner.runner_id]) ?? [];
  const [fields, setFields] = useState<NewSessionFields>({
    preset: wish.preset ?? recent.preset,
    commandLine: wish.commandLine ?? "",
    cwd: wish.cwd ?? "",
    name: wish.name ?? "",
    recording: wish.recording ?? true,
  });
  const typed = fields.commandLine.trim() !== "";
  const preset = options.some(({ name }) => name === fields.preset)
    ? fields.preset
    : (options[0]?.name ?? "");
  const result = readFields({ ...fields, preset });
  const error = "field" in result ? result.message : undefined;

  function change(part: Partial<NewSessionFields>) {
    setFields((before) => ({ ...before, ...part }));
  }

  function submit(event?: FormEvent) {
    event?.preventDefault();
    if (!runner || "field" in result) return;
    rememberStart(runner.runner_id, preset, fields.cwd.trim());
    onStart(runner.runner_id, result);
  }

  // In a field Enter starts by itself; on a preset it would do nothing.
  function onKey(event: KeyboardEvent) {
    const { key, target, ctrlKey, metaKey, altKey } = event;
    const onPreset = target instanceof Element && target.role === "radio";
    if (key === "Enter" && (onPreset || ctrlKey || metaKey)) submit();
    // Who types where nothing can be typed means the command.
    if (onPreset && key.length === 1 && key !== " " && !ctrlKey && !metaKey && !altKey) {
      event.preventDefault();
      change({ commandLine: fields.commandLine + key });
      document.getElementById(`${id}-command`)?.focus();
    }
  }

  return (
    <Dialog
      title="New session"
      wide
      onClose={onClose}
      footer={
        <>
          <span className="flex-1 max-sm:hidden" />
          <Button onClick={onClose} className="max-sm:h-10 max-sm:flex-1">
            Cancel
          </Button>
          <Button
            type="submit"
            form={`${id}-form`}
            look="solid"
            data-testid="start-button"
            disabled={!runner || error !== undefined}
            className="max-sm:h-10 max-sm:flex-1"
          >
            Start
            <CornerDownLeft size={13} className="opacity-60 pointer-coarse:hidden" aria-hidden="true" />
          </Button>
        </>
      }
    >
      <form id={`${id}-form`} onSubmit={submit} onKeyDown={onKey} className="flex flex-col gap-4">
        <Field label="Runner" htmlFor={`${id}-runner`} hint={runner ? undefined : "No runner is online."}>
          <SelectInput
            id={`${id}-runner`}
            data-testid="runner-select"
            value={runner?.runner_id ?? ""}
            onChange={(event) => setRunner(event.target.value as RunnerId)}
          >
            {runners.map(({ runner_id, hostname, online }) => (
              <option key={runner_id} value={runner_id} disabled={!online}>
                {runner_id}
                {hostname && hostname !== runner_id ? ` (${hostname})` : ""}
                {online ? "" : " · offline"}
              </option>
            ))}
          </SelectInput>
        </Field>

        <div className="flex flex-col gap-1.5">
          <span id={`${id}-presets`} className="font-medium text-xs">
            Run
          </span>
          <RadioGroup.Root
            aria-labelledby={`${id}-presets`}
            value={typed ? "" : preset}
            onValueChange={(name) => change({ preset: name, commandLine: "" })}
            className="grid grid-cols-2 gap-1.5 sm:grid-cols-3"
          >
            {options.map(({ name, label, note }) => (
              <RadioGroup.Item
                key={name}
                value={name}
                data-testid="preset-option"
                data-preset={name}
                aria-label={label || name}
                title={note || undefined}
                autoFocus={!typed && !wish.command && name === preset}
                className="flex min-h-11 min-w-0 flex-col justify-center rounded-lg border border-line px-3 py-1.5 text-left transition-colors hover:bg-hover data-[state=checked]:border-accent data-[state=checked]:bg-accent-wash"
              >
                <span className="w-full truncate font-medium text-ink">{label || name}</span>
                <span className="w-full truncate font-mono text-[11px] text-faint">{name}</span>
              </RadioGroup.Item>
            ))}
          </RadioGroup.Root>
          {!typed && <p className="min-h-4.5 text-faint text-xs">{noteOf(options, preset)}</p>}
        </div>

        <Field
          label="Or a command line"
          htmlFor={`${id}-command`}
          error={typed ? error : undefined}
          hint={
            typed ? "Runs as it is, without a shell: quotes work, variables and pipes do not." : undefined
          }
        >
          <TextInput
            id={`${id}-command`}
            data-testid="command-input"
            mono
            placeholder="npm run dev"
            autoFocus={typed || wish.command === true}
            value={fields.commandLine}
            aria-invalid={typed && error !== undefined}
            onChange={(event) => change({ commandLine: event.target.value })}
          />
        </Field>

        <div className="grid gap-4 sm:grid-cols-[1fr_12rem]">
          <Field label="Working directory" htmlFor={`${id}-cwd`}>
            <TextInput
              id={`${id}-cwd`}
              data-testid="cwd-input"
              mono
              list={`${id}-directories`}
              placeholder="home directory"
              value={fields.cwd}
              onChange={(event) => change({ cwd: event.target.value })}
            />
            <datalist id={`${id}-directories`}>
              {directories.map((directory) => (
                <option key={directory} value={directory} />
              ))}
            </datalist>
          </Field>
          <Field label="Name" htmlFor={`${id}-name`} aside="optional">
            <TextInput
              id={`${id}-name`}
              data-testid="name-input"
              maxLength={200}
              value={fields.name}
              onChange={(event) => change({ name: event.target.value })}
            />
          </Field>
        </div>

        <Switch
          id={`${id}-recording`}
          label="Record output"
          hint={
            fields.recording
              ? "Output is kept on HQ's disk: it survives a restart of HQ, and the end of the session."
              : "Output stays in HQ's memory: only the newest of it, and gone when HQ restarts."
          }
          checked={fields.recording}
          onChange={(recording) => change({ recording })}
        />
      </form>
    </Dialog>
  );
}

interface PresetOption {
  name: string;
  label: string;
  note: string;
}

/** A runner that reports no preset can still start the login shell, which is what no preset means. */
function presetOptions(runner: RunnerInfo | undefined): PresetOption[] {
  const presets = (runner?.presets ?? []).map(({ name, label, note }) => ({
    name,
    label: label ?? "",
    note: note ?? "",
  }));
  return presets.length > 0 ? presets : [{ name: "", label: "Login shell", note: "" }];
}

function noteOf(options: readonly PresetOption[], preset: string): string {
  return options.find(({ name }) => name === preset)?.note ?? "";
}
