import { X } from "lucide-react";
import { AlertDialog, Dialog as RadixDialog } from "radix-ui";
import type { ReactNode } from "react";
import { Button, IconButton } from "./Button";
import { cn } from "./classNames";

const scrim = "fixed inset-0 z-40 animate-fade bg-scrim";
const panel =
  "fixed z-50 animate-pop bg-raised shadow-float outline-none " +
  "inset-x-0 bottom-0 max-h-[92dvh] rounded-t-xl pb-[env(safe-area-inset-bottom)] " +
  "sm:inset-x-auto sm:bottom-auto sm:left-1/2 sm:max-h-[84dvh] sm:-translate-x-1/2 sm:rounded-xl sm:pb-0";

interface DialogProps {
  title: string;
  description?: string;
  onClose: () => void;
  /** Width on a screen that is wide enough. */
  wide?: boolean;
  children: ReactNode;
  footer?: ReactNode;
}

/** A dialog: a sheet from below on a phone. Mounted is open. */
export function Dialog({ title, description, onClose, wide, children, footer }: DialogProps) {
  return (
    <RadixDialog.Root open onOpenChange={(open) => !open && onClose()}>
      <RadixDialog.Portal>
        <RadixDialog.Overlay className={scrim} />
        <RadixDialog.Content
          className={cn(panel, "flex flex-col sm:top-[8vh]", wide ? "sm:w-140" : "sm:w-105")}
          {...(!description && { "aria-describedby": undefined })}
        >
          <header className="flex items-start gap-3 px-5 pt-4 pb-3">
            <div className="min-w-0 flex-1">
              <RadixDialog.Title className="font-semibold text-[15px]">{title}</RadixDialog.Title>
              {description && (
                <RadixDialog.Description className="mt-0.5 text-faint text-xs">
                  {description}
                </RadixDialog.Description>
              )}
            </div>
            <RadixDialog.Close asChild>
              <IconButton label="Close" className="-mr-1.5">
                <X size={15} />
              </IconButton>
            </RadixDialog.Close>
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto px-5 pb-5">{children}</div>
          {footer && (
            <footer className="flex items-center gap-2 border-line border-t px-5 py-3">{footer}</footer>
          )}
        </RadixDialog.Content>
      </RadixDialog.Portal>
    </RadixDialog.Root>
  );
}

interface ConfirmProps {
  title: string;
  children: ReactNode;
  action: string;
  onConfirm: () => void;
  onClose: () => void;
  error?: string | undefined;
  busy?: boolean;
}

/** Asks before something that cannot be taken back. The safe answer has the focus. */
export function Confirm({ title, children, action, onConfirm, onClose, error, busy }: ConfirmProps) {
  return (
    <AlertDialog.Root open onOpenChange={(open) => !open && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Overlay className={scrim} />
        <AlertDialog.Content className={cn(panel, "sm:top-[18vh] sm:w-100")}>
          <div className="p-5">
            <AlertDialog.Title className="font-semibold text-[15px]">{title}</AlertDialog.Title>
            <AlertDialog.Description asChild>
              <div className="mt-2 text-[13px] text-soft">{children}</div>
            </AlertDialog.Description>
            {error && (
              <p role="alert" className="mt-3 text-bad text-xs">
                {error}
              </p>
            )}
            <div className="mt-5 flex justify-end gap-2 max-sm:mb-1 max-sm:*:h-10 max-sm:*:flex-1">
              <AlertDialog.Cancel asChild>
                <Button>Cancel</Button>
              </AlertDialog.Cancel>
              <Button look="danger" onClick={onConfirm} disabled={busy}>
                {action}
              </Button>
            </div>
          </div>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
