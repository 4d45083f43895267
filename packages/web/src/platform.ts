/** Which of the agent's programs fits the machine that a visitor comes with: a guess, all others stay on offer. */
import type { ReleaseFile } from "@gfe/sdk";

export interface Hints {
  userAgent: string;
  /** `navigator.userAgentData`, where the browser has it. */
  platform?: string | undefined;
  architecture?: string | undefined;
}

type Platform = Pick<ReleaseFile, "os" | "arch">;

/** Null for a telephone, a tablet, or what is not known. */
export function platformOf({ userAgent, platform = "", architecture }: Hints): Platform | null {
  const text = `${platform} ${userAgent}`;
  if (/Android|iPhone|iPad|Mobile|CrOS/i.test(text)) return null;
  const isArm = architecture ? architecture === "arm" : /aarch64|arm64/i.test(userAgent);
  if (/Windows/i.test(text)) return { os: "windows", arch: "x64" }; // runs on ARM, too
  // Browsers on Macs say Intel whatever they run on; those sold since 2020 are ARM.
  if (/macOS|Macintosh/i.test(text))
    return { os: "macos", arch: architecture && architecture !== "arm" ? "x64" : "arm64" };
  if (/Linux/i.test(text)) return { os: "linux", arch: isArm ? "arm64" : "x64" };
  return null;
}

/** The files for this platform first, the slim before the full; then all others. */
export function inOrder(files: readonly ReleaseFile[], platform: Platform | null): ReleaseFile[] {
  const fits = (file: ReleaseFile) => file.os === platform?.os && file.arch === platform.arch;
  const rank = (file: ReleaseFile) => (fits(file) ? 0 : 2) + (file.kind === "slim" ? 0 : 1);
  return [...files].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
}
