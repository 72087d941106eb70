/** A finger that is drawn over a place, told as distances: xterm.js 6 does not scroll by touch. */

/** Call `onDrag` with how far to scroll, in CSS pixels; the returned function ends that. */
export function watchDrags(
  place: HTMLElement,
  onDrag: (deltaX: number, deltaY: number, at: Touch) => void,
): () => void {
  let last: { x: number; y: number } | null = null;

  function onStart({ touches }: TouchEvent) {
    const touch = touches.length === 1 ? touches[0] : undefined;
    last = touch ? { x: touch.clientX, y: touch.clientY } : null;
  }

  function onMove(event: TouchEvent) {
    const touch = event.touches[0];
    if (!last || !touch) return;
    event.preventDefault();
    onDrag(last.x - touch.clientX, last.y - touch.clientY, touch);
    last = { x: touch.clientX, y: touch.clientY };
  }

  place.addEventListener("touchstart", onStart, { passive: true });
  place.addEventListener("touchmove", onMove, { passive: false });
  return () => {
    place.removeEventListener("touchstart", onStart);
    place.removeEventListener("touchmove", onMove);
  };
}
