/** What `gfe up` shows where somebody looks at a terminal: the live panel, with its keys. */
import type { Control } from "../control/control.ts";
import { windowText } from "../control/owner.ts";
import { counted } from "../control/status.ts";
import type { Host, Terminal } from "../host.ts";
import { openPanel, type PanelActions } from "../panel/panel.ts";
import { printable } from "../panel/text.ts";
import type { Output } from "./command.ts";
import { logTo, type View, warnTo } from "./up-view.ts";

export function panelView(host: Host, terminal: Terminal, out: Output, control: Control): View {
  const panel = openPanel({
    ...{ host, terminal, status: control.status, journal: control.journal, onChange: control.onChange },
    actions: {
      ...ownerActions(control),
      drain: control.drain,
    },
  });
  const sayPlainly = { warning: warnTo(out), update: (message: string) => out.line(printable(message)) };
  const record = (type: "warning" | "update") => (message: string) => {
    if (closed) return sayPlainly[type](message);
    control.journal.put({ at_ms: Math.round(host.nowMs()), type, message: message.slice(0, 300) });
  };
  let closed = false;
  return {
    log: logTo(record("warning")),
    event() {},
    tell: record("update"),
    close() {
      closed = true;
      panel.close();
      const { done, failed, output_tokens } = control.status().served;
      out.line(
        `Left the hub. ${counted(done, "answer")} with ${counted(output_tokens, "token")}${failed > 0 ? `, ${failed} failed` : ""}.`,
      );
    },
  };
}

/** What the panel's keys set; the words say how it stands then. */
function ownerActions({ guest }: Control): Omit<PanelActions, "drain"> {
  return {
    async togglePause() {
      if (guest.state().reasons.some(({ code }) => code === "owner_paused")) {
        guest.resume();
        return "Resumed.";
      }
      guest.pause(null);
      return "Paused: what runs goes on at other nodes. p goes on here.";
    },
    async setSlots(slots) {
      const settings = guest.settings();
      await guest.put({ ...settings, limits: { ...settings.limits, slots } });
      return `${counted(slots, "answer")} at once.`;
    },
    async toggleSchedule() {
      const settings = guest.settings();
      const { on, windows } = settings.schedule;
      if (windows.length === 0)
        return "There is no schedule: `gfe schedule add mon-fri 22:00-07:00` makes one.";
      await guest.put({ ...settings, schedule: { on: !on, windows } });
      return on
        ? "The schedule is off: it serves at any time."
        : `On: ${windows.map(windowText).join(", ")}.`;
    },
  };
}
