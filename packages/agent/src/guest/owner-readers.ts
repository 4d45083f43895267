/** The owner and the machine: is somebody at the keyboard, does it run on battery, does the network cost by what is sent. */
import { numberIn, printed, type Reader, type ReadHost } from "./readings.ts";

/** `gdbus call …GetIdletime`: `(uint64 1234,)`. */
export const mutterIdleMs = (text: string): number | null =>
  numberIn(/^\(uint64 (\d+),\)/.exec(text.trim())?.[1]);

/** `loginctl show-seat seat0 -p IdleHint -p IdleSinceHint`: microseconds since 1970 of the last activity. */
export function loginctlIdleMs(text: string, wallMs: number): number | null {
  const hint = /^IdleHint=(yes|no)$/m.exec(text)?.[1];
  if (hint === undefined) return null;
  if (hint === "no") return 0;
  const since = numberIn(/^IdleSinceHint=(\d+)$/m.exec(text)?.[1]);
  return since === null || since === 0 ? null : Math.max(0, wallMs - since / 1000);
}

/** The first that answers: X11, GNOME on Wayland, else what the session tells systemd. */
export const linuxIdle: Reader = {
  name: "keyboard and mouse",
  async read(host) {
    const x11 = numberIn((await printed(host, "xprintidle")) ?? undefined);
    if (x11 !== null) return { idle_ms: x11 };
    const path = "/org/gnome/Mutter/IdleMonitor/Core";
    const method = "org.gnome.Mutter.IdleMonitor.GetIdletime";
    const to = ["--dest", "org.gnome.Mutter.IdleMonitor", "--object-path", path, "--method", method];
    const gnome = mutterIdleMs((await printed(host, "gdbus", "call", "--session", ...to)) ?? "");
    if (gnome !== null) return { idle_ms: gnome };
    const seat = await printed(
      host,
      "loginctl",
      "show-seat",
      "seat0",
      "-p",
      "IdleHint",
      "-p",
      "IdleSinceHint",
    );
    return { idle_ms: seat === null ? null : loginctlIdleMs(seat, Date.now()) };
  },
};

const SUPPLIES = "/sys/class/power_supply";
const MAINS = ["AC", "AC0", "ACAD", "ADP0", "ADP1"];
const BATTERIES = ["BAT0", "BAT1", "BAT2", "BATT"];

/** Plugged in, or charging, is not on battery; a machine without a battery never is. */
export function onBattery(mains: readonly string[], batteries: readonly string[]): boolean | null {
  if (mains.some((online) => online.trim() === "1")) return false;
  if (batteries.some((status) => status.trim() === "Discharging")) return true;
  if (mains.length > 0) return batteries.length > 0;
  return batteries.length > 0 ? false : null;
}

export const linuxBattery: Reader = {
  name: "/sys/class/power_supply",
  async read(host) {
    const texts = async (names: readonly string[], file: string): Promise<string[]> => {
      const found = await Promise.all(names.map((name) => textOf(host, `${SUPPLIES}/${name}/${file}`)));
      return found.filter((text) => text !== null);
    };
    return { on_battery: onBattery(await texts(MAINS, "online"), await texts(BATTERIES, "status")) };
  },
};

/** `nmcli -t -f GENERAL.STATE,GENERAL.METERED dev show`: of the devices that are connected, whether one is metered. */
export function nmcliMetered(text: string): boolean | null {
  let known: boolean | null = null;
  let isConnected = false;
  for (const line of text.split("\n")) {
    const [name, value = ""] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
    if (name === "GENERAL.STATE") isConnected = value.startsWith("100");
    if (name !== "GENERAL.METERED" || !isConnected) continue;
    if (value.startsWith("yes")) return true;
    if (value.startsWith("no")) known = false;
  }
  return known;
}

export const linuxMetered: Reader = {
  name: "nmcli",
  async read(host) {
    const text = await printed(host, "nmcli", "-t", "-f", "GENERAL.STATE,GENERAL.METERED", "dev", "show");
    return text === null ? null : { metered: nmcliMetered(text) };
  },
};

/** `ioreg -c IOHIDSystem -d 4`: nanoseconds since the last input. */
export function hidIdleMs(text: string): number | null {
  const ns = numberIn(/"HIDIdleTime"\s*=\s*(\d+)/.exec(text)?.[1]);
  return ns === null ? null : ns / 1e6;
}

/** `pmset -g batt`: "Now drawing from 'AC Power'". */
export function pmsetOnBattery(text: string): boolean | null {
  const source = /drawing from '([^']+)'/.exec(text)?.[1];
  return source === undefined ? null : source === "Battery Power";
}

export const macOwner: Reader = {
  name: "ioreg and pmset",
  async read(host) {
    const [hid, battery] = await Promise.all([
      printed(host, "ioreg", "-c", "IOHIDSystem", "-d", "4"),
      printed(host, "pmset", "-g", "batt"),
    ]);
    return { idle_ms: hidIdleMs(hid ?? ""), on_battery: pmsetOnBattery(battery ?? "") };
  },
};

/** Three lines: milliseconds idle; whether on battery; the network's cost type (1: unrestricted). Empty where unknown. */
const WINDOWS_SCRIPT = `
Add-Type -TypeDefinition 'using System;using System.Runtime.InteropServices;public struct L{public uint s;public uint t;}public static class I{[DllImport("user32.dll")]public static extern bool GetLastInputInfo(ref L l);public static uint Ms(){L l=new L();l.s=8;GetLastInputInfo(ref l);return (uint)Environment.TickCount-l.t;}}'
"idle=" + [I]::Ms()
Add-Type -AssemblyName System.Windows.Forms
"power=" + [System.Windows.Forms.SystemInformation]::PowerStatus.PowerLineStatus
try { [void][Windows.Networking.Connectivity.NetworkInformation,Windows,ContentType=WindowsRuntime]
"cost=" + [Windows.Networking.Connectivity.NetworkInformation]::GetInternetConnectionProfile().GetConnectionCost().NetworkCostType } catch { }`;

export function windowsOwner(text: string): {
  idle_ms: number | null;
  on_battery: boolean | null;
  metered: boolean | null;
} {
  const value = (name: string) => new RegExp(`^${name}=(.+?)\\s*$`, "m").exec(text)?.[1];
  const [power, cost] = [value("power"), value("cost")];
  return {
    idle_ms: numberIn(value("idle")),
    on_battery: power === "Online" ? false : power === "Offline" ? true : null,
    metered: cost === undefined || cost === "Unknown" ? null : cost !== "Unrestricted",
  };
}

export const windowsMachine: Reader = {
  name: "PowerShell",
  async read(host) {
    const text = await printed(
      host,
      "powershell",
      "-NoProfile",
      "-NonInteractive",
      "-Command",
      WINDOWS_SCRIPT,
    );
    return text === null ? null : windowsOwner(text);
  },
};

async function textOf({ files }: ReadHost, path: string): Promise<string | null> {
  const bytes = await files.read(path).catch(() => null);
  return bytes && new TextDecoder().decode(bytes);
}
