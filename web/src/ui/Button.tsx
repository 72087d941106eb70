import type { ComponentProps } from "react";
import { cn } from "./classNames";

const looks = {
  solid: "bg-solid text-on-solid hover:opacity-90 active:opacity-80",
  outline: "border border-line-strong bg-raised text-ink hover:bg-hover active:bg-pressed",
  quiet: "text-soft hover:bg-hover hover:text-ink active:bg-pressed",
  danger: "bg-bad-solid text-white hover:opacity-90 active:opacity-80",
} as const;

const sizes = {
  small: "h-7 gap-1.5 px-2 text-xs",
  medium: "h-8 gap-2 px-3 text-[13px]",
} as const;

const shared =
  "inline-flex shrink-0 select-none items-center justify-center whitespace-nowrap rounded-md font-medium " +
  "transition-colors duration-100 disabled:pointer-events-none disabled:opacity-45";

interface ButtonProps extends ComponentProps<"button"> {
  look?: keyof typeof looks;
  size?: keyof typeof sizes;
}

export function Button({ look = "outline", size = "medium", className, ...props }: ButtonProps) {
  return <button type="button" className={cn(shared, looks[look], sizes[size], className)} {...props} />;
}

interface IconButtonProps extends ComponentProps<"button"> {
  /** Says what the button does; also its tooltip. */
  label: string;
  look?: keyof typeof looks;
}

/** A button that is only a picture. Large enough for a finger where there is no mouse. */
export function IconButton({ label, look = "quiet", className, ...props }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      className={cn(shared, looks[look], "size-7 pointer-coarse:size-9", className)}
      {...props}
    />
  );
}
