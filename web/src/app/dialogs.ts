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

export function openDialog(dialog: OpenDialog): void {
  useDialog.setState({ dialog });
}

export function closeDialog(): void {
  useDialog.setState({ dialog: null });
}
