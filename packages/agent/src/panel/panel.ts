/** The live panel of `gfe up`: draws what the agent tells at a bounded rate, and passes keys on. */
import type { Journal } from "../control/journal.ts";
import type { AgentStatus } from "../control/status.ts";
import type { Host, Terminal } from "../host.ts";
import { render } from "./render.ts";
import { createScreen } from "./screen.ts";

const PANEL_LIMITS = {
  /** Between two drawings. */
  drawMs: 250,
  /** While something moves by itself: running answers, a countdown. */
  busyMs: 1_000,
  idleMs: 10_000,
  /** How long it shows what a key did. */
  noteMs: 4_000,
  /** Digits of a number that is typed. */
  digits: 4,
} as const;

/** What keys do. Each resolves with words to show, or null. */
export interface PanelActions {
  togglePause(): Promise<string | null>;
  setSlots(slots: number): Promise<string | null>;
  toggleSchedule(): Promise<string | null>;
  drain(now: boolean): void;
}

export interface PanelOptions {
  host: Pick<Host, "after" | "nowMs">;
  terminal: Terminal;
  status(): AgentStatus;
  journal: Pick<Journal, "last">;
  onChange(listener: () => void): () => void;
  actions: PanelActions;
  zoneMinutes?: number;
}

export interface Panel {
  /** Gives the terminal back; may be called twice. */
  close(): void;
}

export function openPanel(options: PanelOptions): Panel {
  const { host, terminal, actions } = options;
  const zoneMinutes = options.zoneMinutes ?? -new Date().getTimezoneOffset();
  const screen = createScreen(terminal);
  let closed = false;
  let help = false;
  let note: string | null = null;
  let typed: string | null = null;
  let quitting = false;
  let drawnMs = Number.NEGATIVE_INFINITY;
  let callOff = () => {};
  let callOffNote = () => {};

  function draw(): void {
    callOff();
    if (closed) return;
    drawnMs = host.nowMs();
    const status = options.status();
    const prompt =
      typed === null
        ? note
        : `Answers at once, now ${status.slots}: ${typed}_   Enter sets it, Esc leaves it`;
    const view = { status, records: options.journal.last, prompt, help, zoneMinutes };
    const { columns, rows } = terminal;
    screen.show(render(view, { columns, rows }, terminal.colour));
    const moves =
      status.attempts.length > 0 || status.connection.state !== "joined" || status.paused.length > 0;
    callOff = host.after(moves ? PANEL_LIMITS.busyMs : PANEL_LIMITS.idleMs, draw);
  }

  /** Soon, together with what else changes until then. */
  let waiting = false;
  function drawSoon(): void {
    if (waiting || closed) return;
    waiting = true;
    host.after(Math.max(0, drawnMs + PANEL_LIMITS.drawMs - host.nowMs()), () => {
      waiting = false;
      draw();
    });
  }

  function tell(words: string | null): void {
    callOffNote();
    note = words;
    drawSoon();
    if (words !== null) callOffNote = host.after(PANEL_LIMITS.noteMs, () => tell(null));
  }

  function act(action: Promise<string | null>): void {
    action.then(tell, (error: unknown) => tell(error instanceof Error ? error.message : String(error)));
  }

  function quit(): void {
    actions.drain(quitting);
    tell(quitting ? "Stopping." : "Letting running answers end; q once more stops at once.");
    quitting = true;
  }

  function edit(key: string): void {
    if (key === "\r" || key === "\n") {
      const slots = Number(typed);
      if (typed !== "" && slots >= 1) act(actions.setSlots(slots));
      typed = null;
    } else if (key === "\u001b" || key === "q") typed = null;
    else if (key === "\u007f" || key === "\b") typed = typed!.slice(0, -1);
    else if (/^\d$/.test(key) && typed!.length < PANEL_LIMITS.digits) typed += key;
    drawSoon();
  }

  function press(key: string): void {
    if (key === "\u0003") return quit();
    if (key === "\u001a") return terminal.suspend();
    if (key === "\u000c") {
      screen.forget();
      return draw();
    }
    if (typed !== null) return edit(key);
    if (help) {
      help = false;
      return drawSoon();
    }
    switch (key) {
      case "p":
        return act(actions.togglePause());
      case "s":
        return act(actions.toggleSchedule());
      case "l":
        typed = "";
        return drawSoon();
      case "q":
        return quit();
      case "?":
      case "h":
        help = true;
        return drawSoon();
    }
  }

  const redraw = () => {
    screen.forget();
    drawSoon();
  };
  screen.enter();
  const ends = [
    terminal.onHandOver({
      leave: () => screen.leave(),
      enter() {
        screen.enter();
        draw();
      },
    }),
    terminal.onKey((text) => {
      for (const key of keysOf(text)) press(key);
    }),
    terminal.onResize(redraw),
    options.onChange(drawSoon),
  ];
  draw();

  return {
    close() {
      if (closed) return;
      closed = true;
      callOff();
      callOffNote();
      for (const end of ends) end();
      screen.leave();
    },
  };
}

/** What was typed as single keys: arrows and function keys are one each. */
export function keysOf(typed: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: keys begin with it
  return typed.match(/\u001b[[O][0-9;]*[A-Za-z~]|[\s\S]/gu) ?? [];
}
