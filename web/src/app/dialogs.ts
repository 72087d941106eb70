/** Which dialog is open: at most one. */
import { create } from "zustand";
import type { NewSessionWish } from "../features/sessions/NewSessionDialog";
import type { SessionId } from "../wire/values";

export type OpenDialog =
  | { name: "new"; wish: NewSessionWish }
  | { name: "palette" }
  | { name: "settings" }
  | { name: "delete"; sessionId: SessionId }
  | { name: "connect" };

export const useDialog = create<{ dialog: OpenDialog | null }>()(() => ({ dialog: null }));

/** What had the focus before the first dialog opened. */
let focused: Element | null = null;

export function openDialog(dialog: OpenDialog): void {
  const active = document.activeElement;
  if (!active?.closest("[role=dialog], [role=alertdialog]")) focused = active;
  useDialog.setState({ dialog });
}

/** Close the dialog. The focus goes back to where it was, unless something else has taken it. */
export function closeDialog(): void {
  useDialog.setState({ dialog: null });
  setTimeout(() => {
    if (document.activeElement === document.body && focused instanceof HTMLElement) focused.focus();
  });
}
