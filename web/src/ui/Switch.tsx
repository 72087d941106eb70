import { Switch as RadixSwitch } from "radix-ui";
import type { ReactNode } from "react";

interface SwitchProps {
  id: string;
  label: string;
  hint?: ReactNode;
  checked: boolean;
  onChange: (checked: boolean) => void;
}

export function Switch({ id, label, hint, checked, onChange }: SwitchProps) {
  return (
    <div className="flex items-start justify-between gap-4">
      <div className="min-w-0">
        <label htmlFor={id} className="font-medium text-ink text-xs">
          {label}
        </label>
        {hint && (
          <p id={`${id}-hint`} className="mt-0.5 text-faint text-xs">
            {hint}
          </p>
        )}
      </div>
      <RadixSwitch.Root
        id={id}
        checked={checked}
        onCheckedChange={onChange}
        {...(hint && { "aria-describedby": `${id}-hint` })}
        className="relative mt-0.5 h-4.5 w-8 shrink-0 rounded-full bg-line-strong transition-colors data-[state=checked]:bg-accent"
      >
        <RadixSwitch.Thumb className="block size-3.5 translate-x-0.5 rounded-full bg-white shadow-sm transition-transform data-[state=checked]:translate-x-4 data-[state=checked]:bg-raised" />
      </RadixSwitch.Root>
    </div>
  );
}
