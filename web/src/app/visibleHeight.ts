/** Keeps the page above a phone's soft keyboard, where the browser lays the keyboard over the page (iOS). */
export function followVisibleHeight(): void {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const follow = () => {
    // Pinch zoom makes the viewport smaller too; the page must not follow that.
    if (viewport.scale !== 1) return;
    document.documentElement.style.setProperty("--visible-height", `${viewport.height}px`);
    scrollTo(0, 0);
  };
  viewport.addEventListener("resize", follow);
  follow();
}
