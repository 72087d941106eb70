/**
 * Scrolling with a finger, which xterm.js 6 does not do. A finger's way becomes wheel events, so that xterm.js
 * decides as for a mouse: its own scrollback, or what the program asked for.
 */

/** Make touches in `place` scroll what is in it; the returned function ends that. */
export function scrollByTouch(place: HTMLElement): () => void {
  let lastY: number | null = null;

  function onStart(event: TouchEvent) {
    lastY = event.touches.length === 1 ? (event.touches[0]?.clientY ?? null) : null;
  }

  function onMove(event: TouchEvent) {
    const touch = event.touches[0];
    if (lastY === null || !touch) return;
    const deltaY = lastY - touch.clientY;
    lastY = touch.clientY;
    const { clientX, clientY } = touch;
    const screen = place.querySelector(".xterm-screen");
    screen?.dispatchEvent(
      new WheelEvent("wheel", { deltaY, clientX, clientY, bubbles: true, cancelable: true }),
    );
    event.preventDefault();
  }

  place.addEventListener("touchstart", onStart, { passive: true });
  place.addEventListener("touchmove", onMove, { passive: false });
  return () => {
    place.removeEventListener("touchstart", onStart);
    place.removeEventListener("touchmove", onMove);
  };
}
