/**
 * A TerminalSession on the screen: xterm.js with its addons, in a place that comes and goes.
 *
 * Lives as long as its tab. While the tab is not shown, the terminal goes on parsing but is in no document and
 * holds no WebGL context, of which a browser gives a page only a few.
 */
import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { WebglAddon } from "@xterm/addon-webgl";
import { Terminal } from "@xterm/xterm";
import { watchDrags } from "./drags";
import { type Arrow, arrowKey } from "./keys";
import { darkPalette, lightPalette } from "./palette";
import { TerminalSession, type TerminalSessionOptions } from "./TerminalSession";

export interface Appearance {
  dark: boolean;
  /** In CSS pixels. */
  fontSize: number;
  cursorBlink: boolean;
}

interface TerminalViewOptions extends Omit<TerminalSessionOptions, "terminal"> {
  appearance: Appearance;
  /** Tells whether a key is a shortcut of the page and not input. */
  isShortcut: (event: KeyboardEvent) => boolean;
}

const FONT_FAMILY =
  'ui-monospace, "SF Mono", SFMono-Regular, Menlo, "Cascadia Mono", Consolas, "Liberation Mono", ' +
  '"DejaVu Sans Mono", monospace';
const SCROLLBACK_LINES = 10_000;
/** A watcher's terminal is made smaller to show all of the PTY, but not smaller than can be read. */
const SMALLEST_FONT_PX = 9;

export class TerminalView {
  readonly session: TerminalSession;
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #resizes = new ResizeObserver(() => this.#layOut());
  #webgl: WebglAddon | null = null;
  #place: HTMLElement | null = null;
  #appearance: Appearance;
  #removeTouch = () => {};
  /** Lines that a finger has drawn and the terminal has not scrolled: less than one. */
  #dragged = 0;

  constructor({ appearance, isShortcut, ...options }: TerminalViewOptions) {
    this.#appearance = appearance;
    this.#terminal = new Terminal({
      // The Unicode version is a proposed API.
      allowProposedApi: true,
      fontFamily: FONT_FAMILY,
      lineHeight: 1.15,
      scrollback: SCROLLBACK_LINES,
      cursorInactiveStyle: "outline",
      macOptionClickForcesSelection: true,
      rescaleOverlappingGlyphs: true,
      linkHandler: { activate: (_event, uri) => openLink(uri), allowNonHttpProtocols: false },
      ...xtermOptions(appearance),
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.loadAddon(new Unicode11Addon());
    this.#terminal.unicode.activeVersion = "11";
    this.#terminal.loadAddon(new WebLinksAddon((_event, uri) => openLink(uri)));
    this.#terminal.attachCustomKeyEventHandler((event) => {
      if (isCopy(event) && this.#terminal.hasSelection()) {
        void navigator.clipboard?.writeText(this.#terminal.getSelection());
        event.preventDefault();
        return false;
      }
      return !isShortcut(event);
    });
    this.session = new TerminalSession({ ...options, terminal: this.#terminal });
    this.session.subscribe(() => this.#layOut());
    let cells = this.#terminal.rows * this.#terminal.cols;
    this.#terminal.onResize(({ rows, cols }) => {
      // @xterm/addon-webgl 0.19 goes on with the old number of rows where the number of cells stays the same,
      // such as from 24 x 80 to 40 x 48.
      if (rows * cols === cells && this.#webgl) this.#loadWebgl();
      cells = rows * cols;
    });
  }

  /** Show the terminal in `place`, until `unmount`. */
  mount(place: HTMLElement): void {
    this.#place = place;
    if (this.#terminal.element) place.append(this.#terminal.element);
    else this.#terminal.open(place);
    this.#loadWebgl();
    this.#resizes.observe(place);
    this.#removeTouch = watchDrags(place, (deltaX, deltaY, at) => this.#drag(deltaX, deltaY, at));
    this.#layOut();
  }

  unmount(): void {
    this.#resizes.disconnect();
    this.#removeTouch();
    this.#webgl?.dispose();
    this.#webgl = null;
    this.#terminal.element?.remove();
    this.#place = null;
    this.session.setFit(null);
  }

  focus(): void {
    this.#terminal.focus();
  }

  typeArrow(arrow: Arrow): void {
    this.session.type(arrowKey(arrow, this.#terminal.modes.applicationCursorKeysMode));
  }

  paste(text: string): void {
    this.#terminal.paste(text);
  }

  setAppearance(appearance: Appearance): void {
    this.#appearance = appearance;
    Object.assign(this.#terminal.options, xtermOptions(appearance));
    this.#layOut();
  }

  dispose(): void {
    this.unmount();
    this.session.dispose();
  }

  /** In control, the PTY gets the size of the place; watching, the terminal is made to fit around the PTY's. */
  #layOut(): void {
    const place = this.#place;
    if (!place || place.clientWidth === 0 || place.clientHeight === 0) return;
    const { control, pty, phase } = this.session.state;
    const watching = pty !== null && (control !== "you" || phase.name === "ended");
    const normal = this.#appearance.fontSize;
    if (!watching) this.#setFontSize(normal);
    const room = this.#fit.proposeDimensions();
    if (!room) return;
    const zoom = (this.#terminal.options.fontSize ?? normal) / normal;
    this.session.setFit({ rows: limit(room.rows * zoom), cols: limit(room.cols * zoom) });
    if (!watching) return;
    const fitting = normal * zoom * Math.min(room.cols / pty.cols, room.rows / pty.rows);
    this.#setFontSize(Math.min(normal, Math.max(SMALLEST_FONT_PX, Math.floor(fitting * 2) / 2)));
  }

  #drag(deltaX: number, deltaY: number, { clientX, clientY }: Touch): void {
    // A watcher's terminal can be larger than its frame.
    const frame = this.#place?.parentElement;
    const topBefore = frame?.scrollTop;
    frame?.scrollBy(deltaX, deltaY);
    const screen = this.#place?.querySelector(".xterm-screen");
    if (!screen || frame?.scrollTop !== topBefore) return;
    const { buffer, modes, rows } = this.#terminal;
    if (buffer.active.type === "alternate" || modes.mouseTrackingMode !== "none") {
      // The program scrolls: xterm.js makes of a wheel what the program asked for.
      screen.dispatchEvent(
        new WheelEvent("wheel", { deltaY, clientX, clientY, bubbles: true, cancelable: true }),
      );
      return;
    }
    this.#dragged += deltaY / (screen.clientHeight / rows);
    const lines = Math.trunc(this.#dragged);
    this.#dragged -= lines;
    if (lines !== 0) this.#terminal.scrollLines(lines);
  }

  #setFontSize(fontSize: number): void {
    if (this.#terminal.options.fontSize !== fontSize) this.#terminal.options.fontSize = fontSize;
  }

  #loadWebgl(): void {
    this.#webgl?.dispose();
    this.#webgl = null;
    try {
      const webgl = new WebglAddon();
      // The browser takes contexts away when it is short of them.
      webgl.onContextLoss(() => webgl.dispose());
      this.#terminal.loadAddon(webgl);
      this.#webgl = webgl;
    } catch {
      // No WebGL here: xterm.js draws with DOM.
    }
  }
}

function xtermOptions({ dark, fontSize, cursorBlink }: Appearance) {
  return {
    theme: dark ? darkPalette : lightPalette,
    // Programs choose colours for dark terminals; on light paper they need help.
    minimumContrastRatio: dark ? 1 : 4.5,
    fontSize,
    cursorBlink,
  };
}

function isCopy(event: KeyboardEvent): boolean {
  return event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC";
}

function openLink(uri: string): void {
  window.open(uri, "_blank", "noopener,noreferrer");
}

/** The protocol allows 1 to 1000. */
function limit(size: number): number {
  return Math.min(1_000, Math.max(1, Math.floor(size)));
}
