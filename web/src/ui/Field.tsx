import { ChevronsUpDown } from "lucide-react";
import type { ComponentProps, ReactNode } from "react";
import { cn } from "./classNames";
import { Sentence } from "./Sentence";

const control =
  "w-full rounded-md border border-line-strong bg-canvas px-2.5 text-[13px] text-ink outline-offset-0 " +
  "pointer-coarse:text-base focus-visible:border-accent aria-invalid:border-bad";

interface FieldProps {
  label: ReactNode;
  /** Shown beside the label, quietly. */
  aside?: ReactNode;
  /** Shown below; `error` takes its place. */
  hint?: ReactNode;
  error?: string | undefined;
  htmlFor: string;
  children: ReactNode;
}

export function Field({ label, aside, hint, error, htmlFor, children }: FieldProps) {
  return (
    <div className="flex min-w-0 flex-col gap-1.5">
      <div className="flex items-baseline justify-between gap-2">
        <label htmlFor={htmlFor} className="font-medium text-ink text-xs">
          {label}
        </label>
        {aside && <span className="text-faint text-xs">{aside}</span>}
      </div>
      {children}
      {error ? (
        <p role="alert" className="text-bad text-xs">
          <Sentence>{error}</Sentence>
        </p>
      ) : (
        hint && <p className="text-faint text-xs">{hint}</p>
      )}
    </div>
  );
}

export function TextInput({ mono, className, ...props }: ComponentProps<"input"> & { mono?: boolean }) {
  return (
    <input
      autoComplete="off"
      autoCapitalize="off"
      autoCorrect="off"
      spellCheck={false}
      className={cn(control, "h-8.5", mono && "font-mono text-xs", className)}
      {...props}
    />
  );
}

export function SelectInput({ className, ...props }: ComponentProps<"select">) {
  return (
    <div className="relative">
      <select className={cn(control, "h-8.5 appearance-none pr-8", className)} {...props} />
      <ChevronsUpDown
        size={14}
        aria-hidden="true"
        className="pointer-events-none absolute top-1/2 right-2.5 -translate-y-1/2 text-faint"
      />
    </div>
  );
}
